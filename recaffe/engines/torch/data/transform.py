"""The data transformation of Data and ImageData layers: crop, mirror, mean, scale.

Source: DataTransformer of BVLC Caffe 1.0. Training and evaluation both use this one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch

from recaffe import mean as mean_file
from recaffe.augment import Augment, check_channels
from recaffe.engines import views
from recaffe.engines.torch.data.batch import Buffers, Mean, Windows
from recaffe.errors import DataError, NetError
from recaffe.images import changed
from recaffe.proto import caffe_pb2 as pb

Record = tuple[int, int, int]
# Streams of random numbers, beside crops and mirrors (and those of ImageData).
AUGMENT, MIXUP = 3, 4


def generator(seed: int, index: int, *stream: int) -> np.random.Generator:
    """Random numbers that follow from seed, index and (up to three) numbers of a stream alone."""
    counter = [0, *(0,) * (3 - len(stream)), *stream]
    return np.random.Generator(np.random.Philox(key=[seed, index], counter=counter))


@dataclass(frozen=True)
class Draw:
    """For each record of a batch, the crop's upper left corner and whether it is mirrored."""

    tops: np.ndarray
    lefts: np.ndarray
    flips: np.ndarray


class Transform:
    """(pixel − mean) × scale of a crop, mirrored by chance.

    `record` is C×H×W of the source's first record. With `training` the crop's place is drawn, from
    `seed` and the batch's number; else it is the centre, or that of `view`, one of `views.COUNT`. Where
    `mirror` is set, TEST mirrors too, as Caffe does. `stream` tells the layers of a net apart. `augment` is
    done to records before all this.

    Raises `DataError` or `NetError` if mean or crop don't fit the records, `ConfigError` if `augment` doesn't.
    """

    def __init__(
        self,
        param: pb.TransformationParameter,
        record: Record,
        training: bool,
        seed: int,
        stream: int = 0,
        augment: Augment | None = None,
        view: int | None = None,
    ) -> None:
        self.record, self.training, self.seed, self.stream = record, training, seed, stream
        self.augment, self.view = augment, view
        if augment:
            check_channels(augment, record[0])
        self.crop, self.mirror, self.scale = param.crop_size, param.mirror, param.scale
        self.mean_file = param.mean_file
        self._check_crop(record)
        if param.HasField("mean_file") and param.mean_value:
            raise NetError("transform_param has both mean_file and mean_value; Caffe allows one.")
        self.mean: Mean | None = None
        if param.HasField("mean_file"):
            mean = mean_file.read(param.mean_file)
            mean_file.check_fits(mean, record, param.mean_file)
            self.mean = Mean(torch.from_numpy(np.stack([mean, mean[:, :, ::-1]])))
        elif param.mean_value:
            c = record[0]
            if len(param.mean_value) not in (1, c):
                raise NetError(f"{len(param.mean_value)} mean values for {c} channels.")
            values = torch.tensor(list(param.mean_value), dtype=torch.float32)
            self.mean = Mean(values[:, None, None].expand(c, 1, 1))

    @property
    def shape(self) -> Record:
        """C×H×W after the crop."""
        return self.window(self.record)

    def window(self, record: Record) -> Record:
        """C×H×W that a record of any shape has after the crop."""
        c, h, w = record
        return (c, self.crop, self.crop) if self.crop else (c, h, w)

    def draw(self, index: int, n: int) -> Draw:
        """Where the `n` records of batch `index` are cropped, for records of the first one's shape."""
        _, h, w = self.record
        _, ch, cw = self.shape
        zero = np.zeros(n, np.int64)
        tops, lefts, flips = zero + (h - ch) // 2, zero + (w - cw) // 2, zero
        if self.view is not None:
            y, x, flip = views.place(self.view, (h - ch, w - cw))
            return Draw(zero + y, zero + x, zero + flip)
        if self.training or self.mirror:
            rng = generator(self.seed, index, self.stream)
            if self.training:
                tops = rng.integers(0, h - ch, n, endpoint=True)
                lefts = rng.integers(0, w - cw, n, endpoint=True)
            if self.mirror:
                flips = rng.integers(0, 2, n)
        return Draw(tops, lefts, flips)

    def start(self, index: int, total: int, rows: Sequence[int], buffers: Buffers) -> Filling:
        """Begin with the rows `rows` of batch `index`, which has `total` records."""
        return Filling(self, index, rows, self.draw(index, total), buffers)

    def _check_crop(self, record: Record) -> None:
        _, h, w = record
        if self.crop > min(h, w):
            raise NetError(f"crop_size {self.crop} is larger than the records ({w}×{h}).")

    def place(self, record: Record, index: int, row: int) -> tuple[int, int]:
        """The corner for a record of another shape than the first one's."""
        self._check_crop(record)
        if self.mean is not None and self.mean.a_picture:
            mean_file.check_fits(self.mean.values[0].numpy(), record, self.mean_file)
        _, h, w = record
        _, ch, cw = self.window(record)
        if self.view is not None:
            return views.place(self.view, (h - ch, w - cw))[:2]
        if not self.training:
            return (h - ch) // 2, (w - cw) // 2
        rng = generator(self.seed, index, row + 1, self.stream)
        return int(rng.integers(0, h - ch, endpoint=True)), int(
            rng.integers(0, w - cw, endpoint=True)
        )


class Filling:
    """A batch that takes in one record after the other."""

    def __init__(
        self, transform: Transform, index: int, rows: Sequence[int], draw: Draw, buffers: Buffers
    ) -> None:
        self.transform, self.index, self.rows, self.buffers = transform, index, rows, buffers
        mine = np.asarray(rows, np.int64)
        self.tops, self.lefts, self.flips = draw.tops[mine], draw.lefts[mine], draw.flips[mine]
        self.pixels = torch.empty(0)
        self._array = self.pixels.numpy()
        self.filled = 0

    def add(self, record: np.ndarray) -> None:
        """Crop and mirror the next record, C×H×W.

        Raises `DataError` if its window has another shape than the batch's first: Caffe allows
        records of several sizes only with crop_size, or with one record a batch.
        """
        t, i = self.transform, self.filled
        if t.augment and t.augment.changes:
            rng = generator(t.seed, self.index, AUGMENT, self.rows[i], t.stream)
            record = changed.change(record, t.augment, rng)
        shape: Record = record.shape
        window = t.window(shape)
        if shape != t.record:
            self.tops[i], self.lefts[i] = t.place(shape, self.index, self.rows[i])
        if i == 0:
            dtype = torch.float32 if record.dtype == np.float32 else torch.uint8
            self._take(self.buffers.empty((len(self.rows), *window), dtype))
        elif record.dtype == np.float32 and self.pixels.dtype == torch.uint8:
            self._take(self.pixels.float())
        if window != self._array.shape[1:] or window[0] != t.record[0]:
            raise DataError(
                f"there are records of {_times(shape)} and {_times(t.record)}. Without crop_size all "
                "must have one size, and always as many channels: write them anew, or set crop_size, "
                "and force_color for encoded ones."
            )
        _, h, w = window
        y, x = self.tops[i], self.lefts[i]
        target = self._array[i]
        target[:] = record[:, y : y + h, x : x + w]
        if self.flips[i]:
            rows = target.reshape(-1, w)
            cv2.flip(rows, 1, rows)  # in place; four times as fast as copying from right to left
        self.filled += 1

    def _take(self, pixels: torch.Tensor) -> None:
        self.pixels, self._array = pixels, pixels.numpy()

    def done(self) -> Windows:
        """The batch, without mean and scale yet."""
        t, flips = self.transform, self.flips
        lefts = self.lefts
        if t.mean is not None and t.mean.a_picture:
            # Of the mean's mirror image, a mirrored record takes the window at the mirrored place.
            lefts = np.where(flips, t.record[2] - self.pixels.shape[3] - lefts, lefts)
        return Windows(self.pixels, t.mean, t.scale, self.tops, lefts, flips)


def _times(shape: tuple[int, ...]) -> str:
    return "×".join(map(str, shape))
