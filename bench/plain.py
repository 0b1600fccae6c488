"""Nets as one writes them by hand in PyTorch, trained on a batch that lies in memory: no data layer, no Caffe.

    python -m bench.plain NET BATCH STEPS THREADS

prints the seconds of each step. What an engine that reads prototxts costs is the difference to this.
"""

from __future__ import annotations

import sys
import time

import torch
from torch import nn

from recaffe.allocator import keep_freed_memory

CLASSES = 10


def caffenet() -> nn.Module:
    """CaffeNet, its groups and its normalisation included."""
    return nn.Sequential(
        nn.Conv2d(3, 96, 11, 4), nn.ReLU(True), nn.MaxPool2d(3, 2), nn.LocalResponseNorm(5),
        nn.Conv2d(96, 256, 5, padding=2, groups=2), nn.ReLU(True), nn.MaxPool2d(3, 2), nn.LocalResponseNorm(5),
        nn.Conv2d(256, 384, 3, padding=1), nn.ReLU(True),
        nn.Conv2d(384, 384, 3, padding=1, groups=2), nn.ReLU(True),
        nn.Conv2d(384, 256, 3, padding=1, groups=2), nn.ReLU(True), nn.MaxPool2d(3, 2), nn.Flatten(),
        nn.Linear(9216, 4096), nn.ReLU(True), nn.Dropout(), nn.Linear(4096, 4096), nn.ReLU(True), nn.Dropout(),
        nn.Linear(4096, 1000),
    )  # fmt: skip


class Fire(nn.Module):
    """SqueezeNet's module."""

    def __init__(self, before: int, squeeze: int, expand: int) -> None:
        super().__init__()
        self.squeeze = nn.Conv2d(before, squeeze, 1)
        self.small = nn.Conv2d(squeeze, expand, 1)
        self.large = nn.Conv2d(squeeze, expand, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """N×before×H×W to N×2·expand×H×W."""
        x = torch.relu_(self.squeeze(x))
        return torch.cat([torch.relu_(self.small(x)), torch.relu_(self.large(x))], 1)


def squeezenet() -> nn.Module:
    """SqueezeNet v1.1."""

    def pool() -> nn.Module:
        return nn.MaxPool2d(3, 2, ceil_mode=True)

    return nn.Sequential(
        nn.Conv2d(3, 64, 3, 2), nn.ReLU(True), pool(), Fire(64, 16, 64), Fire(128, 16, 64), pool(),
        Fire(128, 32, 128), Fire(256, 32, 128), pool(), Fire(256, 48, 192), Fire(384, 48, 192), Fire(384, 64, 256),
        Fire(512, 64, 256), nn.Dropout(), nn.Conv2d(512, 1000, 1), nn.ReLU(True), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
    )  # fmt: skip


NETS = {"caffenet": caffenet, "squeezenet_v1.1": squeezenet}


def steps(name: str, batch: int, count: int, threads: int) -> list[float]:
    """Seconds of `count` steps of SGD with momentum and weight decay at 227 pixels, channels last."""
    torch.set_num_threads(threads)
    keep_freed_memory()  # as recaffe does
    torch.manual_seed(1)
    net = NETS[name]().to(memory_format=torch.channels_last).train()
    x = torch.rand(batch, 3, 227, 227).mul_(255).sub_(117).to(memory_format=torch.channels_last)
    labels = torch.arange(batch) % CLASSES
    optimiser = torch.optim.SGD(net.parameters(), 1e-4, momentum=0.9, weight_decay=5e-4)
    seconds = []
    for _ in range(count):
        began = time.perf_counter()
        optimiser.zero_grad()
        nn.functional.cross_entropy(net(x), labels).backward()
        optimiser.step()
        seconds.append(time.perf_counter() - began)
    return seconds


if __name__ == "__main__":
    print(*steps(sys.argv[1], *map(int, sys.argv[2:])))
