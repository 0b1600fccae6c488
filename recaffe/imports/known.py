"""The nets of torchvision and timm that have a counterpart, and why others don't."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from dataclasses import dataclass

from recaffe.errors import NetError
from recaffe.imports import alexnet, densenet, googlenet, mobilenet, resnet, squeezenet, vgg
from recaffe.imports.rules import Rule
from recaffe.net.prototxt import Message

Triple = tuple[float, float, float]


@dataclass(frozen=True)
class Pixels:
    """What pixels of 0 to 1 were normalised with: less `mean`, divided by `std`, in RGB order."""

    mean: Triple
    std: Triple


IMAGENET = Pixels((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
HALF = Pixels((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))


@dataclass(frozen=True)
class Known:
    """A net: the zoo's that it is made from, its table of names, and what makes it another net.

    `change` None: it is the published net. `ignored` begin keys that have no place in it;
    `rename` (pattern, replacement) brings old keys up to date.
    """

    zoo: str
    rules: list[Rule]
    change: Callable[[Message], None] | None = None
    about: str = "the published net"
    pixels: Pixels = IMAGENET
    crop_size: int = 224
    ignored: tuple[str, ...] = ()
    rename: tuple[str, str] = ("", "")

    @property
    def head(self) -> str:
        """The classifier's module."""
        return self.rules[-1].source


def _resnet(depth: int) -> Known:
    return Known(
        f"resnet{depth}", resnet.rules(depth), resnet.change,
        "strides are in the 3x3 convolutions, pool1 is padded and rounded down, conv1 has no bias",
    )  # fmt: skip


_DENSENET = Known("densenet121", densenet.rules(), rename=densenet.RENAME)

KNOWN: dict[str, Known] = {
    "torchvision:alexnet": Known(
        "alexnet", alexnet.rules(), alexnet.change,
        "other widths, no groups, no LRN, conv1 padded, dropout before fc6 and fc7",
    ),
    "torchvision:vgg16": Known("vgg16", vgg.rules(16, vgg.TORCHVISION)),
    "torchvision:vgg19": Known("vgg19", vgg.rules(19, vgg.TORCHVISION)),
    "torchvision:googlenet": Known(
        "googlenet", googlenet.rules(), googlenet.change,
        "BatchNorm instead of LRN, 3x3 in place of 5x5, pool4 of 2x2, no auxiliary heads",
        # The published weights are Google's own; transform_input brings ImageNet's numbers to these.
        pixels=HALF, ignored=googlenet.IGNORED,
    ),
    "torchvision:squeezenet1_0": Known(
        "squeezenet_v1.0", squeezenet.rules("1.0"), squeezenet.change, "conv10 isn't padded"
    ),
    "torchvision:squeezenet1_1": Known("squeezenet_v1.1", squeezenet.rules("1.1")),
    "torchvision:resnet50": _resnet(50),
    "torchvision:resnet101": _resnet(101),
    "torchvision:densenet121": _DENSENET,
    "timm:vgg16": Known("vgg16", vgg.rules(16, vgg.TIMM)),
    "timm:vgg19": Known("vgg19", vgg.rules(19, vgg.TIMM)),
    "timm:resnet50": _resnet(50),
    "timm:resnet101": _resnet(101),
    "timm:densenet121": _DENSENET,
    "timm:mobilenetv1_100": Known(
        "mobilenet_v1", mobilenet.rules(), mobilenet.change,
        "Clip to 0 and 6 in place of ReLU", pixels=HALF,
    ),
}  # fmt: skip

_V1 = "the zoo's MobileNet is v1, other blocks altogether; timm:mobilenetv1_100 is that one"
_NO_COUNTERPART = {
    "mobilenet_v2": _V1,
    "mobilenet_v3": _V1,
    "mobilenetv2": _V1,
    "mobilenetv3": _V1,
    "inception": "the zoo has GoogLeNet (Inception v1) alone: torchvision:googlenet",
    "vgg": "the zoo has VGG-16 and VGG-19 without BatchNorm alone: vgg16, vgg19",
    "resnet": "the zoo has ResNet-50 and ResNet-101 alone: resnet50, resnet101",
    "densenet": "the zoo has DenseNet-121 alone: densenet121",
}


def known(name: str) -> Known:
    """The net of that name; raises `NetError` that says which there are, or why not this one."""
    if name in KNOWN:
        return KNOWN[name]
    library, _, net = name.partition(":")
    for start, why in _NO_COUNTERPART.items():
        if library in ("torchvision", "timm") and net.startswith(start):
            raise NetError(f"{name} can't be imported: {why}.")
    near = difflib.get_close_matches(name, KNOWN, 1)
    hint = f" Did you mean {near[0]}?" if near else ""
    raise NetError(f"There is no {name!r} to import.{hint} There are {', '.join(KNOWN)}.")
