"""GoogLeNet of torchvision: batch normalisation behind each convolution and no local response
normalisation; its "5×5" convolutions are 3×3, pool4 is 2×2.

Its auxiliary heads are left out: they divide 14 pixels into four windows that overlap unevenly,
which no layer of Caffe's does.
"""

from __future__ import annotations

from recaffe.imports import edit
from recaffe.imports.rules import Rule, conv, norm
from recaffe.net.prototxt import Message

IGNORED = ("aux1.", "aux2.")
_BRANCHES = {
    "branch1": "1x1",
    "branch2.0": "3x3_reduce",
    "branch2.1": "3x3",
    "branch3.0": "5x5_reduce",
    "branch3.1": "5x5",
    "branch4.1": "pool_proj",
}
_STEM = {"conv1": "conv1/7x7_s2", "conv2": "conv2/3x3_reduce", "conv3": "conv2/3x3"}
_MODULES = ("3a", "3b", "4a", "4b", "4c", "4d", "4e", "5a", "5b")
_NORM = """
layer {{
  name: "{name}/bn" type: "BatchNorm" bottom: "{blob}" top: "{blob}"
  param {{ lr_mult: 0 decay_mult: 0 }} param {{ lr_mult: 0 decay_mult: 0 }}
  param {{ lr_mult: 0 decay_mult: 0 }}
  batch_norm_param {{ eps: 0.001 }}
}}
layer {{
  name: "{name}/scale" type: "Scale" bottom: "{blob}" top: "{blob}"
  scale_param {{ bias_term: true }}
}}
"""


def rules() -> list[Rule]:
    """A convolution with its normalisation each, then the classifier."""
    names = dict(_STEM)
    for module in _MODULES:
        for branch, kind in _BRANCHES.items():
            names[f"inception{module}.{branch}"] = f"inception_{module}/{kind}"
    out = []
    for source, name in names.items():
        out.append(conv(f"{source}.conv", name))
        out.append(norm(f"{source}.bn", f"{name}/bn", f"{name}/scale"))
    return [*out, conv("fc", "loss3/classifier")]


def change(tree: Message) -> None:
    """The zoo's GoogLeNet → torchvision's."""
    heads = ("loss1/", "loss2/")
    tree.fields = [
        f
        for f in tree.fields
        if f.message is None or not str(f.message.get("name")).startswith(heads)
    ]
    edit.drop(tree, ["pool1/norm1", "conv2/norm2"])
    for layer in edit.of_type(tree, "Convolution"):
        name, param = str(layer.get("name")), layer.child("convolution_param")
        param.set("bias_term", False)
        param.remove("bias_filler")
        for rate in [f for f in layer.fields if f.name == "param"][1:]:
            layer.fields.remove(rate)
        if name.endswith("/5x5"):
            param.set("pad", 1)
            param.set("kernel_size", 3)
        edit.insert(tree, layer, _NORM.format(name=name, blob=layer.get("top")))
    layers = edit.layers(tree)
    layers["pool4/3x3_s2"].child("pooling_param").set("kernel_size", 2)
    layers["pool5/drop_7x7_s1"].child("dropout_param").set("dropout_ratio", 0.2)
