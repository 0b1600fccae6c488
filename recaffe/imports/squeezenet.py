"""SqueezeNet 1.0 and 1.1: torchvision's 1.0 doesn't pad conv10, the published one does."""

from __future__ import annotations

from recaffe.imports import edit
from recaffe.imports.rules import Rule, conv
from recaffe.net.prototxt import Message

# Where the fire modules 2 to 9 stand in `features`, among poolings.
FIRES = {"1.0": (3, 4, 5, 7, 8, 9, 10, 12), "1.1": (3, 4, 6, 7, 9, 10, 11, 12)}


def rules(version: str) -> list[Rule]:
    """conv1, eight fire modules, conv10."""
    out = [conv("features.0", "conv1")]
    for fire, at in enumerate(FIRES[version], start=2):
        for source, layer in (("squeeze", "squeeze1x1"), ("expand1x1",) * 2, ("expand3x3",) * 2):
            out.append(conv(f"features.{at}.{source}", f"fire{fire}/{layer}"))
    return [*out, conv("classifier.1", "conv10")]


def change(tree: Message) -> None:
    """The zoo's SqueezeNet 1.0 → torchvision's."""
    edit.layers(tree)["conv10"].child("convolution_param").remove("pad")
