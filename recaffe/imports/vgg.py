"""VGG-16 and VGG-19, configurations D and E: torchvision's and timm's net is the published one."""

from __future__ import annotations

from recaffe.imports.rules import Rule, conv

TORCHVISION = ("classifier.0", "classifier.3", "classifier.6")
# timm's are convolutions over 7×7 and 1×1.
TIMM = ("pre_logits.fc1", "pre_logits.fc2", "head.fc")


def rules(depth: int, heads: tuple[str, str, str]) -> list[Rule]:
    """`features` counts convolutions, ReLUs and poolings."""
    out, at = [], 0
    deep = 3 if depth == 16 else 4
    for block, count in enumerate((2, 2, deep, deep, deep), start=1):
        for i in range(1, count + 1):
            out.append(conv(f"features.{at}", f"conv{block}_{i}"))
            at += 2
        at += 1
    return [*out, *(conv(head, f"fc{i}") for i, head in enumerate(heads, start=6))]
