"""The passes of a training: forward and backward over its batches, each in parts that fit."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor

from recaffe.engines.base import Output
from recaffe.engines.torch import losses, memory, parts
from recaffe.engines.torch.data import Batch, Feed, mixup
from recaffe.engines.torch.debug import Debug, Say
from recaffe.engines.torch.distributed import Group
from recaffe.engines.torch.outputs import Means
from recaffe.engines.torch.replica import Replica, Together, statistics
from recaffe.engines.torch.upload import split
from recaffe.proto import caffe_pb2 as pb

Blobs = dict[str, Tensor]
Batches = Iterator[tuple[Batch, Blobs]]
Compute = Callable[[Blobs, Sequence[float], bool], tuple[Tensor, Blobs]]


class Passes:
    """What a process computes of each batch, in `parts` equal parts of its share.

    Dropout's numbers follow from seed and iteration, so a resumed run draws the same; and from the
    part's place in the whole batch, so that parts draw what the whole would.
    """

    def __init__(
        self, replica: Replica, feed: Feed, group: Group, device: torch.device,
        p: pb.SolverParameter, seed: int,
    ) -> None:  # fmt: skip
        self.replica, self.net, self.feed = replica, replica.net, feed
        self.group, self.device, self.iter_size, self.seed = group, device, p.iter_size, seed
        # A blob whose first axis isn't the batch (a matrix, a factor by channel) is whole in each part.
        self.batched = {
            top
            for s in feed.sources
            for top, shape in s.shapes.items()
            if shape and shape[0] == s.batch_size
        }
        self.batched |= {mixup.partners_of(top) for top in self.batched}
        self.parts, self.free = 1, memory.available(device)

    @property
    def own(self) -> int:
        """The pictures of a batch that are this process's."""
        return self.feed.batch_size // self.group.world

    def start(self) -> None:
        """Meet the other processes; the net has its first weights and is on its device."""
        self.together = Together(self.replica, self.group)
        self.free = memory.available(self.device)

    def choose_parts(self, wanted: int | str, batches: Batches) -> Batches:
        """Cut batches into parts of `wanted` pictures, or as many as fit ("auto"); returns all batches.

        Raises `ConfigError` or `NetError` where a batch can't be cut so.
        """
        self.parts, batches = parts.choose(
            wanted, self.own, self.replica, batches, self.group, self.device, self.batched
        )
        if self.parts * self.group.world > 1:
            losses.check_parts(self.replica.terms, self.net.walked)
        return batches

    def gradients(
        self, batches: Batches, iteration: int, display: bool, debug: Say | None
    ) -> tuple[Tensor, tuple[Output, ...]]:
        """Add up the gradients of one iteration, over iter_size batches.

        Returns its loss (this process's share) and, where they are to be displayed, the outputs of
        the last batch. `debug` takes debug_info's lines.
        """
        total: Tensor | None = None
        means: Means | None = None
        for i in range(self.iter_size):
            last = i == self.iter_size - 1
            if display and last:
                means = Means(self.net, self.device, self.feed.batch_size)

            def backward(
                part: Blobs, share: Sequence[float], end: bool, last: bool = last
            ) -> tuple[Tensor, Blobs]:
                return self.together.backward(part, share, last and end)

            step = iteration * self.iter_size + i
            loss = self._batch(batches, step, backward, means, debug, backwards=True)
            total = loss if total is None else total + loss
        assert total is not None, "iter_size is at least 1"
        return total / self.iter_size, means.outputs(self.group) if means is not None else ()

    def loss(self, batches: Batches, iteration: int, debug: Say | None) -> Tensor:
        """The loss of one more batch (this process's share), of which nothing else stays."""
        before = [s.clone() for s in statistics(self.net)]

        def forward(part: Blobs, share: Sequence[float], end: bool) -> tuple[Tensor, Blobs]:
            loss, outputs = self.replica(part, share)
            return loss.detach(), outputs

        step = iteration * self.iter_size
        loss = self._batch(batches, step, forward, None, debug, backwards=False)
        for value, old in zip(statistics(self.net), before, strict=True):
            value.copy_(old)
        return loss

    def _batch(
        self, batches: Batches, step: int, compute: Compute, means: Means | None,
        debug: Say | None, backwards: bool,
    ) -> Tensor:  # fmt: skip
        total: Tensor | None = None
        with self.explained():
            _, blobs = next(batches)
            pieces = split(blobs, self.parts, self.batched)
            shares = losses.shares(self.replica.terms, pieces, self.group)
            for n, (part, share) in enumerate(zip(pieces, shares, strict=True)):
                torch.manual_seed((self.seed << 32) + step)
                self.net.rank = self.group.rank * self.parts + n
                self.net.world = self.group.world * self.parts
                watch: AbstractContextManager[None] = nullcontext()
                if debug is not None:
                    watch = Debug(self.net, debug).watching(part, backwards)
                with watch:
                    loss, outputs = compute(part, share, n == self.parts - 1)
                total = loss if total is None else total + loss
                if means is not None:
                    means.add({**part, **outputs}, self.own // self.parts)
        assert total is not None, "there is at least one part"
        return total

    def explained(self) -> AbstractContextManager[None]:
        """Running out of memory within becomes a `TrainError` that names what would fit."""
        return memory.explained(
            lambda: memory.explain(
                self.net.walked, self.device, self.own // self.parts, self.free,
                (self.feed.batch_size, self.iter_size), self.group.world,
            )
        )  # fmt: skip
