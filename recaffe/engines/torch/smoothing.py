"""The loss as Caffe shows it: the mean of the last few iterations', over all processes."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable

import torch
from torch import Tensor

from recaffe.engines.torch.distributed import Group

# Losses that may wait on a GPU until they are wanted.
UNREAD = 1000


class Losses:
    """The last `average` losses. A process adds its share of each; `values` are the whole batches'.

    Reading a loss makes a GPU finish what it was asked for, and several processes meet for it. So
    losses are read when they are wanted; those of one process on the CPU, which are there, at once.
    `watch(iteration, loss)` is called for each that is nan or infinite.
    """

    def __init__(self, average: int, group: Group, watch: Callable[[int, float], None]) -> None:
        self.values = deque[float](maxlen=average)
        self._group, self._watch = group, watch
        self._unread: list[tuple[int, Tensor]] = []

    @property
    def mean(self) -> float:
        """The smoothed loss, of what was read."""
        return sum(self.values) / len(self.values)

    def add(self, iteration: int, loss: Tensor) -> None:
        """The loss of an iteration, a scalar on the device."""
        self._unread.append((iteration, loss))
        if len(self._unread) >= UNREAD or (loss.device.type == "cpu" and self._group.world == 1):
            self.read()

    def read(self) -> None:
        """Bring the losses over from the device; all processes do it at the same iteration."""
        if not self._unread:
            return
        own = torch.stack([loss.float() for _, loss in self._unread]).tolist()
        iterations = [iteration for iteration, _ in self._unread]
        self._unread.clear()
        for iteration, value in zip(iterations, self._group.sums(own), strict=True):
            self.values.append(value)
            if not math.isfinite(value):
                self._watch(iteration, value)
