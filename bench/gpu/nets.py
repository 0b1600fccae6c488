"""AlexNet, VGG-16 and ResNet-50 as one writes them by hand in PyTorch: layer by layer the work of models/.

AlexNet is BVLC's, with groups and local response normalisation; ResNet-50 the published one, whose strides
are in the first convolution of a block and whose first convolution has a bias.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn

from bench import plain


@dataclass(frozen=True)
class Plain:
    """How a net is built, the side of its pictures, and its batch: what a training on a card takes."""

    build: Callable[[], nn.Module]
    side: int
    batch: int


def alexnet() -> nn.Module:
    """N×3×227×227 to N×1000."""
    return nn.Sequential(
        nn.Conv2d(3, 96, 11, 4), nn.ReLU(True), nn.LocalResponseNorm(5), nn.MaxPool2d(3, 2),
        nn.Conv2d(96, 256, 5, padding=2, groups=2), nn.ReLU(True), nn.LocalResponseNorm(5), nn.MaxPool2d(3, 2),
        nn.Conv2d(256, 384, 3, padding=1), nn.ReLU(True),
        nn.Conv2d(384, 384, 3, padding=1, groups=2), nn.ReLU(True),
        nn.Conv2d(384, 256, 3, padding=1, groups=2), nn.ReLU(True), nn.MaxPool2d(3, 2),
        *_classifier(9216),
    )  # fmt: skip


def vgg16() -> nn.Module:
    """N×3×224×224 to N×1000."""
    layers: list[nn.Module] = []
    before = 3
    for count, width in ((2, 64), (2, 128), (3, 256), (3, 512), (3, 512)):
        for _ in range(count):
            layers += [nn.Conv2d(before, width, 3, padding=1), nn.ReLU(True)]
            before = width
        layers.append(nn.MaxPool2d(2))
    return nn.Sequential(*layers, *_classifier(25088))


def _classifier(before: int) -> list[nn.Module]:
    return [
        nn.Flatten(), nn.Linear(before, 4096), nn.ReLU(True), nn.Dropout(), nn.Linear(4096, 4096), nn.ReLU(True),
        nn.Dropout(), nn.Linear(4096, 1000),
    ]  # fmt: skip


class Bottleneck(nn.Module):
    """ResNet's block of three convolutions, beside which the first of a stage has one more."""

    def __init__(self, before: int, width: int, stride: int) -> None:
        super().__init__()
        self.branch = nn.Sequential(
            *_normed(before, width, 1, stride), nn.ReLU(True), *_normed(width, width, 3, 1), nn.ReLU(True),
            *_normed(width, 4 * width, 1, 1),
        )  # fmt: skip
        same = before == 4 * width
        self.beside = nn.Identity() if same else nn.Sequential(*_normed(before, 4 * width, 1, stride))  # fmt: skip

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """N×before×H×W to N×4·width×H/stride×W/stride."""
        return torch.relu_(self.branch(x) + self.beside(x))


def _normed(before: int, after: int, kernel: int, stride: int) -> tuple[nn.Module, nn.Module]:
    convolution = nn.Conv2d(before, after, kernel, stride, padding=kernel // 2, bias=False)
    return convolution, nn.BatchNorm2d(after)


def resnet50() -> nn.Module:
    """N×3×224×224 to N×1000."""
    blocks: list[nn.Module] = []
    before = 64
    for count, width, stride in ((3, 64, 1), (4, 128, 2), (6, 256, 2), (3, 512, 2)):
        for i in range(count):
            blocks.append(Bottleneck(before, width, 1 if i else stride))
            before = 4 * width
    return nn.Sequential(
        nn.Conv2d(3, 64, 7, 2, padding=3), nn.BatchNorm2d(64), nn.ReLU(True), nn.MaxPool2d(3, 2, ceil_mode=True),
        *blocks, nn.AvgPool2d(7), nn.Flatten(), nn.Linear(2048, 1000),
    )  # fmt: skip


NETS = {
    "alexnet": Plain(alexnet, 227, 256),
    "vgg16": Plain(vgg16, 224, 64),
    "resnet50": Plain(resnet50, 224, 64),
    "squeezenet_v1.1": Plain(plain.squeezenet, 227, 128),
}
