"""How many parts a batch is computed in, so that each fits the device."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Collection, Iterator
from typing import TypeVar

import torch
from torch import Tensor

from recaffe.allocator import give_back_freed_memory
from recaffe.engines.torch import memory
from recaffe.engines.torch.distributed import Group
from recaffe.engines.torch.replica import Replica, statistics
from recaffe.engines.torch.upload import split
from recaffe.errors import is_out_of_memory

Blobs = dict[str, Tensor]
T = TypeVar("T")


def choose(
    micro_batch: int | str,
    pictures: int,
    replica: Replica,
    batches: Iterator[tuple[T, Blobs]],
    group: Group,
    device: torch.device,
    batched: Collection[str],
) -> tuple[int, Iterator[tuple[T, Blobs]]]:
    """The number of equal parts of a process's `pictures`, and all batches: "auto" tries the first.

    A CPU promises memory that it may not have, so there a part must be expected to fit as well.
    `batched` names the blobs that are cut. Raises `ConfigError` for a number that doesn't divide the pictures.
    """
    if micro_batch != "auto":
        return memory.parts(pictures, int(micro_batch)), batches
    first = next(batches)
    tried = by_trial(replica, first[1], pictures, batched)
    expected = memory.by_estimate(replica.net.walked, device)
    fits = tried if device.type == "cuda" else lambda n: expected(n) and tried(n)
    # Where not even one picture fits, the first step says so.
    most = memory.largest(pictures, fits) or 1
    if device.type == "cpu" and most < pictures:
        # A heap breaks into pieces over many parts, which a trial of two doesn't show.
        most = memory.largest(pictures, lambda n: n <= max(1, most // 2))
    return group.highest(pictures // most), itertools.chain([first], batches)


def by_trial(
    replica: Replica, blobs: Blobs, pictures: int, batched: Collection[str]
) -> Callable[[int], bool]:
    """Whether so many of a batch's `pictures` pass forward and backward: tried out.

    Nothing of a trial stays: no gradient, and no trace in BatchNorm's statistics.
    """

    def fits(some: int) -> bool:
        # The second pass finds the gradients of the first in its way.
        parts = split(blobs, pictures // some, batched)[:2]
        before = [s.clone() for s in statistics(replica.net)]
        try:
            for part in parts:
                loss, _ = replica(part, [1.0] * len(replica.terms))
                loss.backward()
            return True
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            return False
        finally:
            for value, old in zip(statistics(replica.net), before, strict=True):
                value.copy_(old)
            replica.zero_grad()
            give_back_freed_memory()
            if torch.cuda.is_available():
                torch.cuda.empty_cache()

    return fits
