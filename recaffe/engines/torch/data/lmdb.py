"""The Data layer: Datum records of an LMDB in the order of their keys."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import cv2
import lmdb
import torch

from recaffe import real_caffe
from recaffe.engines.torch.data import mixup
from recaffe.engines.torch.data.mixup import Blobs, Mix
from recaffe.engines.torch.data.source import Loads, Setting, Source, Step
from recaffe.engines.torch.data.transform import Transform
from recaffe.errors import DataError, NetError
from recaffe.lmdb.datum import parse_datum, pixels
from recaffe.lmdb.read import Records, count, open_records
from recaffe.net.shapes import Shape
from recaffe.proto import caffe_pb2 as pb


class LmdbData(Source):
    """Data. Its rand_skip is passed over, as Caffe 1.0 does: only ImageData's has an effect."""

    def __init__(self, layer: pb.LayerParameter, setting: Setting) -> None:
        super().__init__(layer, setting)
        p, t = layer.data_param, layer.transform_param
        self.want_tops(1, 2)
        self.want_batch()
        if p.backend != pb.DataParameter.LMDB:
            raise NetError(
                "the torch engine reads LMDB, and backend says LevelDB (which is what no backend "
                "means). Write the data as LMDB with convert_imageset -backend lmdb and set "
                f"backend: LMDB. {real_caffe.can('read LevelDB')}"
            )
        if t.force_color and t.force_gray:
            raise NetError("transform_param has both force_color and force_gray.")
        self.flag = cv2.IMREAD_UNCHANGED
        if t.force_color or t.force_gray:
            self.flag = cv2.IMREAD_COLOR if t.force_color else cv2.IMREAD_GRAYSCALE
        self.source = Path(p.source)
        self.records = count(self.source)
        if not self.records:
            raise DataError(f"{self.source} has no records. Remove it and run again.")
        with open_records(self.source) as found:
            first = parse_datum(found.value(0), str(self.source))
            c, h, w = pixels(first, self.flag).shape
            self.decodes = first.encoded
        self.transform = Transform(
            t, (c, h, w), setting.training, setting.seed, setting.stream, setting.augment,
            setting.view,
        )  # fmt: skip

    @property
    def shapes(self) -> dict[str, Shape]:
        """Pictures, and labels where there is a second top."""
        both: list[Shape] = [(self.batch_size, *self.transform.shape), (self.batch_size,)]
        return dict(zip(self.tops, both, strict=False))

    @contextmanager
    def reading(self, steps: Iterator[Step]) -> Iterator[Loads]:
        """Walks through the LMDB in order; the pixels are read by what is called later."""
        with open_records(self.source) as found:
            yield self._walk(found, steps)

    def _walk(self, found: Records, steps: Iterator[Step]) -> Loads:
        assert self.records
        for step in steps:
            mix = self.mix(step)
            rows = step.rows if mix is None else mix.rows
            places = [step.start - step.rows.start + row for row in rows]
            try:
                values = [found.value(place % self.records) for place in places]
            except lmdb.Error as error:
                raise DataError(
                    f"{self.source} is broken: {error}. Remove it and run again."
                ) from error
            yield partial(self._make, values, step, rows, mix)

    def _make(
        self, values: Sequence[bytes | memoryview], step: Step, rows: Sequence[int], mix: Mix | None
    ) -> Blobs:
        filling = self.transform.start(step.index, step.total, rows, self.setting.buffers)
        labels = self.setting.buffers.empty((len(rows),), torch.float32)
        numbers = labels.numpy()  # a tensor takes 20 times as long to write one value
        for i, value in enumerate(values):
            datum = parse_datum(value, str(self.source))
            try:
                filling.add(pixels(datum, self.flag))
            except DataError as error:
                raise DataError(f"{self.source}: {error}") from error
            numbers[i] = datum.label
        return mixup.blobs(self.tops, filling.done(), labels, mix)
