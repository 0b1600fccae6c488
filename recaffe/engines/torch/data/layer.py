"""The Data layer: records of an LMDB in order, transformed, a few batches ahead of the device.

Batch `i` is a function of the data, the seed and `i` alone, so a resumed run sees what an
uninterrupted one would have seen.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from recaffe import mean as mean_file
from recaffe.errors import DataError, NetError
from recaffe.lmdb.read import count, first_shape, open_lmdb, parse_datum, pixels
from recaffe.net.shapes import Shape
from recaffe.proto import caffe_pb2 as pb

PREFETCH = 4  # batches, as Caffe's data_param.prefetch


@dataclass(frozen=True)
class Batch:
    """`data` is float32 N×C×H×W, `labels` int64 N; `index` is the batch's number."""

    index: int
    data: torch.Tensor
    labels: torch.Tensor


class Transform:
    """(pixel − mean) × scale, crop and mirror, as `DataTransformer` does it.

    TRAIN crops and mirrors at random, from `seed` and the batch's number; TEST takes the centre.
    Raises `DataError` or `NetError` if mean or crop don't fit the records.
    """

    def __init__(
        self,
        param: pb.TransformationParameter,
        record: tuple[int, int, int],
        training: bool,
        seed: int,
    ) -> None:
        self.record, self.training, self.seed = record, training, seed
        self.crop, self.mirror, self.scale = param.crop_size, param.mirror, param.scale
        c, h, w = record
        if self.crop > min(h, w):
            raise NetError(f"crop_size {self.crop} is larger than the records ({w}×{h}).")
        if param.mean_file and param.mean_value:
            raise NetError("transform_param has both mean_file and mean_value; Caffe allows one.")
        self.mean: np.ndarray | None = None
        if param.mean_file:
            self.mean = mean_file.read(param.mean_file)
            mean_file.check_fits(self.mean, record, param.mean_file)
        elif param.mean_value:
            if len(param.mean_value) not in (1, c):
                raise NetError(f"{len(param.mean_value)} mean values for {c} channels.")
            values = np.array(param.mean_value, np.float32)
            self.mean = np.broadcast_to(values[:, None, None], (c, 1, 1))

    @property
    def shape(self) -> tuple[int, int, int]:
        """C×H×W after the crop."""
        c, h, w = self.record
        return (c, self.crop, self.crop) if self.crop else (c, h, w)

    def __call__(self, records: list[np.ndarray], index: int) -> np.ndarray:
        """uint8 records of one batch → float32 N×C×H×W."""
        n, (c, h, w) = len(records), self.shape
        out = np.empty((n, c, h, w), np.float32)
        tops, lefts, flips = self._draw(n, index)
        per_pixel = self.mean is not None and self.mean.shape[1:] != (1, 1)
        for i, record in enumerate(records):
            y, x = tops[i], lefts[i]
            window = record[:, y : y + h, x : x + w]
            if per_pixel and self.mean is not None:  # the mean is cropped at the same place
                np.subtract(window, self.mean[:, y : y + h, x : x + w], out=out[i])
            else:
                out[i] = window
            if flips[i]:
                out[i] = out[i, :, :, ::-1].copy()
        if self.mean is not None and not per_pixel:
            out -= self.mean
        if self.scale != 1:
            out *= self.scale
        return out

    def _draw(self, n: int, index: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        _, h, w = self.record
        _, ch, cw = self.shape
        zero = np.zeros(n, np.int64)
        if not self.training:
            return zero + (h - ch) // 2, zero + (w - cw) // 2, zero
        rng = np.random.Generator(np.random.Philox(key=[self.seed, index]))
        tops = rng.integers(0, h - ch, n, endpoint=True)
        lefts = rng.integers(0, w - cw, n, endpoint=True)
        return tops, lefts, rng.integers(0, 2, n) if self.mirror else zero


class DataLayer:
    """A Data layer of a net: where its batches come from."""

    def __init__(self, layer: pb.LayerParameter, training: bool, seed: int) -> None:
        if layer.data_param.backend != pb.DataParameter.LMDB:
            raise NetError(f"Data layer {layer.name!r}: the torch engine reads LMDB, not LevelDB.")
        self.tops = list(layer.top)
        self.source = Path(layer.data_param.source)
        self.batch_size = layer.data_param.batch_size
        self.records = count(self.source)
        if not self.records:
            raise DataError(f"{self.source} has no records. Remove it and run again.")
        self.transform = Transform(layer.transform_param, first_shape(self.source), training, seed)

    def shapes(self) -> dict[str, Shape]:
        """Shapes of the tops: data, and labels where there is a second top."""
        both: list[Shape] = [(self.batch_size, *self.transform.shape), (self.batch_size,)]
        return dict(zip(self.tops, both, strict=False))

    def batches(self, first: int = 0) -> Iterator[Batch]:
        """Endless batches from number `first` on, wrapping around at the end as Caffe does."""
        return _prefetched(self._endless(first))

    def once(self) -> Iterator[Batch]:
        """Each record exactly once; the last batch may be smaller."""
        return _prefetched(self._once())

    def blobs(self, batch: Batch, device: torch.device) -> dict[str, torch.Tensor]:
        """A batch under the layer's top names, on the device."""
        data = batch.data.to(device, non_blocking=True).contiguous(
            memory_format=torch.channels_last
        )
        return dict(
            zip(self.tops, (data, batch.labels.to(device, non_blocking=True)), strict=False)
        )

    def _endless(self, first: int) -> Iterator[Batch]:
        with open_lmdb(self.source) as env, env.begin() as txn, txn.cursor() as cursor:
            _seek(cursor, first * self.batch_size % self.records)
            index = first
            while True:
                values = []
                for _ in range(self.batch_size):
                    values.append(cursor.value())
                    if not cursor.next():
                        cursor.first()
                yield self._make(values, index)
                index += 1

    def _once(self) -> Iterator[Batch]:
        with open_lmdb(self.source) as env, env.begin() as txn, txn.cursor() as cursor:
            values: list[bytes] = []
            index = 0
            for _, value in cursor:
                values.append(value)
                if len(values) == self.batch_size:
                    yield self._make(values, index)
                    values, index = [], index + 1
            if values:
                yield self._make(values, index)

    def _make(self, values: list[bytes], index: int) -> Batch:
        datums = [parse_datum(v, str(self.source)) for v in values]
        records = [pixels(d) for d in datums]
        for record in records:
            if record.shape != self.transform.record:
                raise DataError(
                    f"{self.source} holds records of {record.shape} and {self.transform.record}. "
                    "Remove it and run again."
                )
        labels = torch.tensor([d.label for d in datums], dtype=torch.int64)
        return Batch(index, torch.from_numpy(self.transform(records, index)), labels)


def _seek(cursor, steps: int) -> None:  # type: ignore[no-untyped-def]  # lmdb ships no types
    cursor.first()
    for _ in range(steps):
        cursor.next()


_END = object()


def _prefetched(batches: Iterator[Batch]) -> Iterator[Batch]:
    """Run the iterator in a thread, a few batches ahead; its errors come up here."""
    ready: queue.Queue[object] = queue.Queue(PREFETCH)
    stop = threading.Event()

    def work() -> None:
        try:
            for batch in batches:
                while not stop.is_set():
                    try:
                        ready.put(batch, timeout=0.1)
                        break
                    except queue.Full:
                        continue
                if stop.is_set():
                    return
            ready.put(_END)
        except BaseException as error:
            ready.put(error)

    thread = threading.Thread(target=work, daemon=True, name="prefetch")
    thread.start()
    try:
        while True:
            item = ready.get()
            if item is _END:
                return
            if isinstance(item, BaseException):
                raise item
            assert isinstance(item, Batch)
            yield item
    finally:
        stop.set()
        while thread.is_alive():  # a full queue must not keep it from seeing the flag
            try:
                ready.get_nowait()
            except queue.Empty:
                thread.join(0.05)
