"""MobileNet v1 of timm, which clips at 6 (ReLU6) where the published Caffe net has ReLU."""

from __future__ import annotations

from recaffe.imports import edit
from recaffe.imports.rules import Rule, conv, norm
from recaffe.net.prototxt import Message

# The published names of the blocks in each of timm's stages.
STAGES = (
    ("2_1",),
    ("2_2", "3_1"),
    ("3_2", "4_1"),
    ("4_2", "5_1", "5_2", "5_3", "5_4", "5_5"),
    ("5_6", "6"),
)


def _step(source: str, batch_norm: str, layer: str) -> list[Rule]:
    return [conv(source, layer), norm(batch_norm, f"{layer}/bn", f"{layer}/scale")]


def rules() -> list[Rule]:
    """The stem, then a depthwise and a pointwise convolution a block."""
    out = _step("conv_stem", "bn1", "conv1")
    for stage, names in enumerate(STAGES):
        for i, name in enumerate(names):
            block = f"blocks.{stage}.{i}"
            out += _step(f"{block}.conv_dw", f"{block}.bn1", f"conv{name}/dw")
            out += _step(f"{block}.conv_pw", f"{block}.bn2", f"conv{name}/sep")
    return [*out, conv("classifier", "fc7")]


def change(tree: Message) -> None:
    """The zoo's MobileNet → timm's."""
    for layer in edit.of_type(tree, "ReLU"):
        layer.set("type", "Clip")
        param = layer.child("clip_param")
        param.set("min", 0)
        param.set("max", 6)
