"""ResNet-50 and -101: torchvision and timm stride in a block's 3×3 ("v1.5"), the published net in its
first 1×1; they pad the first pooling and round it down, and conv1 has no bias."""

from __future__ import annotations

from collections.abc import Iterator

from recaffe.imports import edit
from recaffe.imports.rules import Rule, conv, norm
from recaffe.net.prototxt import Message
from recaffe.net.tokens import Ident

BLOCKS = {50: (3, 4, 6, 3), 101: (3, 4, 23, 3)}


def _names(depth: int) -> Iterator[tuple[str, str]]:
    """(module, published name) of each block; the long stages of 101 count: a, b1, b2, …"""
    for stage, blocks in enumerate(BLOCKS[depth], start=1):
        for i in range(blocks):
            letter = chr(ord("a") + i)
            if depth > 50 and stage in (2, 3) and i:
                letter = f"b{i}"
            yield f"layer{stage}.{i}", f"{stage + 1}{letter}"


def rules(depth: int) -> list[Rule]:
    """The stem, then three convolutions a block, and a fourth beside the first block of a stage."""
    out = [conv("conv1", "conv1"), norm("bn1", "bn_conv1", "scale_conv1")]
    for source, name in _names(depth):
        parts = [("conv1", "bn1", "2a"), ("conv2", "bn2", "2b"), ("conv3", "bn3", "2c")]
        if source.endswith(".0"):
            parts.append(("downsample.0", "downsample.1", "1"))
        for convolution, batch_norm, branch in parts:
            out.append(conv(f"{source}.{convolution}", f"res{name}_branch{branch}"))
            here = f"{name}_branch{branch}"
            out.append(norm(f"{source}.{batch_norm}", f"bn{here}", f"scale{here}"))
    return [*out, conv("fc", "fc1000")]


def change(tree: Message) -> None:
    """The zoo's ResNet → torchvision's."""
    layers = edit.layers(tree)
    layers["conv1"].child("convolution_param").set("bias_term", False)
    pool = layers["pool1"].child("pooling_param")
    pool.set("pad", 1)
    pool.set("round_mode", Ident("FLOOR"))
    for name, layer in layers.items():
        if not name.endswith("_branch2a"):
            continue
        param = layer.child("convolution_param")
        if (stride := param.get("stride")) is not None:
            param.remove("stride")
            beside = layers[name.replace("2a", "2b")]
            beside.child("convolution_param").set("stride", stride)
