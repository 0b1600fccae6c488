"""All data layers of one phase of a net, read together."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing

import torch

from recaffe.augment import Augment
from recaffe.engines.torch.data import mixup
from recaffe.engines.torch.data.arrays import DummyData, Given, Input, MemoryData
from recaffe.engines.torch.data.batch import Batch, Buffers
from recaffe.engines.torch.data.hdf5 import Hdf5Data
from recaffe.engines.torch.data.images import ImageData
from recaffe.engines.torch.data.lmdb import LmdbData
from recaffe.engines.torch.data.mixup import Blobs
from recaffe.engines.torch.data.prefetch import ahead
from recaffe.engines.torch.data.source import Load, Loads, Setting, Source, Step, named
from recaffe.errors import NetError
from recaffe.net import graph, wiring
from recaffe.net.shapes import Shape
from recaffe.proto import caffe_pb2 as pb

Totals = Iterator[tuple[int, int]]  # (batch number, its records over all processes)
_KINDS: dict[str, Callable[[pb.LayerParameter, Setting], Source]] = {
    "Data": LmdbData,
    "ImageData": ImageData,
    "HDF5Data": Hdf5Data,
    "DummyData": DummyData,
    "Input": Input,
}
_PICTURES = ("Data", "ImageData")
_MOST_THREADS = 8


class Feed:
    """The batches of one phase of a net: a function of the data, the seed and their number alone.

    So a resumed run sees what an uninterrupted one would have seen. With `world` processes each
    batch is drawn as one, and process `rank` takes its share of the rows: in TRAIN as many as each.

    `batch_size` is the whole batch's (the first data layer's that has an end). `records` is those of
    an epoch, or None if the layers have no end or no common one. `shapes` are this process's.
    `memory` holds (data, labels) for each MemoryData layer. `augment` is done to the pictures, in TRAIN
    only; `view` is which of a record's views is taken, in place of the centre crop.

    Raises `NetError` or `DataError`, with the layer's name, for anything that can't be read.
    """

    def __init__(
        self,
        net: pb.NetParameter,
        phase: int,
        seed: int,
        *,
        level: int = 0,
        stages: Sequence[str] = (),
        rank: int = 0,
        world: int = 1,
        memory: Mapping[str, Given] | None = None,
        augment: Augment | None = None,
        view: int | None = None,
    ) -> None:
        self.rank, self.world, self.buffers = rank, world, Buffers()
        layers = [x for x in net.layer if graph.included(x, phase, level, stages)]
        layers = [x for x in layers if x.type in graph.DATA]
        if not layers:
            raise NetError(
                f"The net {net.name!r} has no data layer in {pb.Phase.Name(phase)}. Add one (Data, "
                "ImageData, HDF5Data), or mend the include rules of those it has."
            )
        self.augment = augment if phase == pb.TRAIN and augment else None
        if self.augment:
            _check_augment(self.augment, layers, net, phase, level, stages)
        self.sources: list[Source] = []
        for stream, layer in enumerate(layers):
            setting = Setting(
                phase == pb.TRAIN, max(0, seed), stream, self.buffers, self.augment, view
            )
            with named(layer):
                self.sources.append(_source(layer, setting, memory or {}))
        ending = [s for s in self.sources if s.records is not None]
        self.batch_size = (ending or self.sources)[0].batch_size
        for source in self.sources:
            if source.records is None:  # it goes with the others
                source.batch_size = self.batch_size
        ends = {(s.records, s.batch_size) for s in ending}
        # Layers that end apart have no epoch in common.
        self.records = ending[0].records if len(ends) == 1 else None
        for source in self.sources:
            size = source.batch_size
            # A test's shares may be uneven, if they are so for all layers alike.
            if size % world and (phase == pb.TRAIN or size != self.batch_size):
                raise NetError(
                    f"Layer {source.layer.name!r} ({source.layer.type}): batch_size {size} can't be "
                    f"shared by {world} processes. Make it a multiple of {world}."
                )
        self.shapes: dict[str, Shape] = {}
        for source in self.sources:
            size = source.batch_size
            for top, shape in source.shapes.items():
                mine = shape and shape[0] == size
                self.shapes[top] = (-(-size // world), *shape[1:]) if mine else shape

    def batches(self, first: int = 0) -> Iterator[Batch]:
        """Endless batches from number `first` on, wrapping around at the end as Caffe does.

        None at all for a process that has no row of a batch.
        """

        def totals() -> Totals:
            index = first
            while self._rows(self.batch_size):
                yield index, self.batch_size
                index += 1

        return self._read(totals, once=False)

    def once(self) -> Iterator[Batch]:
        """Each record exactly once; the last batch may be smaller.

        A process that has no row in the last batch doesn't get it. Raises `NetError` if there is no
        common end.
        """
        if self.records is None:
            raise NetError(
                "The data layers "
                f"{', '.join(repr(s.layer.name) for s in self.sources)} have no common end, so "
                "there is no pass over each record once."
            )
        records = self.records

        def totals() -> Totals:
            for index in range(math.ceil(records / self.batch_size)):
                yield index, min(self.batch_size, records - index * self.batch_size)

        return self._read(totals, once=True)

    def _read(self, totals: Callable[[], Totals], once: bool) -> Iterator[Batch]:
        threads = 1
        if self.augment or any(s.decodes for s in self.sources):
            threads = min(_MOST_THREADS, torch.get_num_threads())
        # Caffe takes the depth from data_param, whatever the layer's type.
        depth = max(threads, *(s.layer.data_param.prefetch for s in self.sources))
        with ExitStack() as stack:
            # Left in the opposite order: first the threads end, then what they read from is closed.
            loads = [
                stack.enter_context(s.reading(self._steps(s, totals(), once))) for s in self.sources
            ]
            tasks = self._tasks(totals(), loads)
            yield from stack.enter_context(closing(ahead(tasks, depth, threads)))

    def _steps(self, source: Source, totals: Totals, once: bool) -> Iterator[Step]:
        size = source.batch_size
        for index, total in totals:
            if size != self.batch_size:
                total = size
            rows = self._rows(total)
            if rows:
                start = index * size + rows.start + (0 if once else source.skip)
                yield Step(index, total, rows, start)

    def _rows(self, total: int) -> range:
        return range(self.rank * total // self.world, (self.rank + 1) * total // self.world)

    def _tasks(self, totals: Totals, loads: list[Loads]) -> Iterator[Callable[[], Batch]]:
        for index, total in totals:
            if rows := self._rows(total):
                parts = []
                for source, load in zip(self.sources, loads, strict=True):
                    with named(source.layer):
                        parts.append(next(load))
                yield self._task(index, len(rows), parts)

    def _task(self, index: int, size: int, parts: list[Load]) -> Callable[[], Batch]:
        def make() -> Batch:
            tops: Blobs = {}
            for source, part in zip(self.sources, parts, strict=True):
                with named(source.layer):
                    tops |= part()
            return Batch(index, size, tops, self.buffers)

        return make


def _check_augment(
    augment: Augment, data: Sequence[pb.LayerParameter], net: pb.NetParameter, phase: int, level: int,
    stages: Sequence[str],
) -> None:  # fmt: skip
    """Raises `NetError` for data that it can't be done to."""
    for layer in data:
        if layer.type not in _PICTURES:
            raise NetError(
                f"augment is for pictures, and layer {layer.name!r} ({layer.type}) reads something else. "
                "Remove augment."
            )
    if not augment.mixup:
        return
    if len(data) > 1 or len(data[0].top) != 2:
        raise NetError(
            "mixup wants one data layer with pictures and labels, and the net has "
            f"{', '.join(f'{x.name!r} ({len(x.top)} tops)' for x in data)}. Remove mixup."
        )
    mixup.check([x for x in net.layer if graph.included(x, phase, level, stages)], data[0].top[1])


def _source(layer: pb.LayerParameter, setting: Setting, memory: Mapping[str, Given]) -> Source:
    if layer.type == "MemoryData":
        return MemoryData(layer, setting, memory.get(layer.name))
    if layer.type not in _KINDS:
        raise NetError(f"the torch engine doesn't know this type. {wiring.way_out(layer.type)}")
    return _KINDS[layer.type](layer, setting)
