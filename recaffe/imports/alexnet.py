"""AlexNet of torchvision: "One weird trick" (Krizhevsky 2014), not the net of 2012 that Caffe has.

Other widths, no groups, no local response normalisation, conv1 padded, and dropout before fc6 and
fc7 instead of behind them.
"""

from __future__ import annotations

from recaffe.imports import edit
from recaffe.imports.rules import Rule, conv
from recaffe.net.prototxt import Message

_WIDTHS = {"conv1": 64, "conv2": 192, "conv3": 384, "conv4": 256, "conv5": 256}


def rules() -> list[Rule]:
    """`features` counts convolutions, ReLUs and poolings, `classifier` dropouts too."""
    places = zip((0, 3, 6, 8, 10), _WIDTHS, strict=True)
    out = [conv(f"features.{i}", layer) for i, layer in places]
    return out + [conv(f"classifier.{i}", f"fc{n}") for i, n in ((1, 6), (4, 7), (6, 8))]


def change(tree: Message) -> None:
    """The zoo's AlexNet → torchvision's."""
    edit.drop(tree, ["norm1", "norm2", "drop6", "drop7"])
    layers = edit.layers(tree)
    for name, width in _WIDTHS.items():
        param = layers[name].child("convolution_param")
        param.set("num_output", width)
        param.remove("group")
    layers["conv1"].child("convolution_param").set("pad", 2)
    for behind, name, blob in (("pool5", "drop5", "pool5"), ("relu6", "drop6", "fc6")):
        edit.insert(
            tree,
            layers[behind],
            f'layer {{ name: "{name}" type: "Dropout" bottom: "{blob}" top: "{blob}" '
            "dropout_param { dropout_ratio: 0.5 } }",
        )
