"""Tests during training: each record of a test net's data exactly once, shared over the processes."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext

import torch

from recaffe.engines.base import Test, TrainJob
from recaffe.engines.torch.data import Batch
from recaffe.engines.torch.debug import Debug, Say
from recaffe.engines.torch.devices import autocast, keeps_channels_last
from recaffe.engines.torch.distributed import Group
from recaffe.engines.torch.memory import explained_pass
from recaffe.engines.torch.net import Net
from recaffe.engines.torch.nets import Source
from recaffe.engines.torch.outputs import Means
from recaffe.engines.torch.upload import on_device
from recaffe.net import graph
from recaffe.net.shapes import takes_any_batch

# Named by its places in the net and in a workflow's config.
SETTING = "batch_size of the data layer in TEST (test_batch_size)"


class Tester:
    """Test net number `number` of a solver, with the weights of the net in training.

    Data that have no end (DummyData) are read for `test_iter` batches; so are those of a net that
    can't take a last, smaller batch.
    """

    def __init__(
        self, source: Source, number: int, trained: Net, job: TrainJob, group: Group,
        device: torch.device, seed: int, test_iter: int, total: bool,
    ) -> None:  # fmt: skip
        self.number, self.group, self.device = number, group, device
        self.precision, self.test_iter, self.total = job.precision, test_iter, total
        self.channels_last = keeps_channels_last(job.channels_last, job.precision, device)
        self.feed = source.feed(seed, group)
        self.net = Net(
            source.net,
            source.net.state.phase,
            self.feed.shapes,
            share=trained,
            channels_last=self.channels_last,
        )
        self.net.to(device)
        self.accuracy, self.loss = graph.judges(self.net.layers)
        own = self.feed.batch_size // group.world
        self.once = self.feed.records is not None and (
            self.feed.records % self.feed.batch_size == 0 or takes_any_batch(self.net.walked, own)
        )

    @torch.no_grad()
    def test(
        self, iteration: int, debug: Say | None = None, look_up: Callable[[], None] | None = None
    ) -> Test:
        """The means over all records after `iteration` updates.

        `debug` takes debug_info's lines; `look_up` is called before each batch.
        """
        means = Means(self.net, self.device, self.feed.batch_size)
        batches = self.feed.once() if self.once else self._some()
        own = self.feed.batch_size // self.group.world
        with explained_pass(self.net.walked, self.device, own, SETTING):
            for batch, blobs in on_device(
                batches, self.device, self.channels_last, self.net.walked
            ):
                if look_up is not None:
                    look_up()
                watch: AbstractContextManager[None] = nullcontext()
                if debug is not None:
                    watch = Debug(self.net, debug).watching(blobs, backward=False)
                with watch, autocast(self.precision, self.device):
                    means.add(self.net(blobs), batch.size)
        outputs = means.outputs(self.group)
        first = {o.name: o.value for o in reversed(outputs)}
        total = sum(o.weight * o.value for o in outputs) if self.total else math.nan
        return Test(
            iteration, outputs, first.get(self.accuracy, math.nan), first.get(self.loss, math.nan),
            self.number, total,
        )  # fmt: skip

    def _some(self) -> Iterator[Batch]:
        # A process that has no row of a batch gets none.
        yield from itertools.islice(self.feed.batches(), self.test_iter)
