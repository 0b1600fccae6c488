"""The ImageData layer: pictures named in a list, read when they are needed."""

from __future__ import annotations

import os
import re
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np
import torch

from recaffe.engines.torch.data import mixup
from recaffe.engines.torch.data.mixup import Blobs
from recaffe.engines.torch.data.source import Placed, Setting, Step
from recaffe.engines.torch.data.transform import Transform, generator
from recaffe.errors import DataError, NetError
from recaffe.lmdb.datum import decode
from recaffe.net.shapes import Shape
from recaffe.proto import caffe_pb2 as pb

SHUFFLE, SKIP = 1, 2  # streams of random numbers


class ImageData(Placed):
    """ImageData. With `shuffle`, the order of each epoch follows from the seed and its number."""

    decodes = True

    def __init__(self, layer: pb.LayerParameter, setting: Setting) -> None:
        super().__init__(layer, setting)
        self.p = p = layer.image_data_param
        self.want_tops(2, 2)
        self.want_batch()
        if bool(p.new_height) != bool(p.new_width):
            raise NetError("new_height and new_width must be set both, or neither.")
        self.entries = read_list(p.source, p.root_folder)
        self.records = len(self.entries)
        if p.rand_skip:
            rng = generator(setting.seed, 0, SKIP, 0, setting.stream)
            self.skip = int(rng.integers(p.rand_skip))
            if self.skip >= self.records:
                raise DataError(
                    f"rand_skip {p.rand_skip} is more than the {self.records} pictures of {p.source}."
                )
        self._order = lru_cache(maxsize=2)(self._shuffled)
        shape = self._read(self._order(0)[0] if p.shuffle else 0).shape
        self.transform = Transform(
            layer.transform_param, shape, setting.training, setting.seed, setting.stream,
            setting.augment, setting.view,
        )  # fmt: skip

    @property
    def shapes(self) -> dict[str, Shape]:
        """Pictures and labels."""
        b = self.batch_size
        return dict(zip(self.tops, [(b, *self.transform.shape), (b,)], strict=True))

    def load(self, step: Step) -> Blobs:
        """Read the step's pictures."""
        mix = self.mix(step)
        rows = step.rows if mix is None else mix.rows
        filling = self.transform.start(step.index, step.total, rows, self.setting.buffers)
        labels = torch.empty(len(rows))
        for i, row in enumerate(rows):
            entry = self._entry(step.start - step.rows.start + row)
            filling.add(self._read(entry))
            labels[i] = self.entries[entry][1]
        return mixup.blobs(self.tops, filling.done(), labels, mix)

    def _entry(self, place: int) -> int:
        epoch, at = divmod(place, len(self.entries))
        return int(self._order(epoch)[at]) if self.p.shuffle else at

    def _shuffled(self, epoch: int) -> np.ndarray:
        rng = generator(self.setting.seed, epoch, SHUFFLE, 0, self.setting.stream)
        return rng.permutation(len(self.entries))

    def _read(self, entry: int) -> np.ndarray:
        """A picture as uint8 C×H×W, BGR or gray, as Caffe reads it."""
        p, path = self.p, self.entries[entry][0]
        flag = cv2.IMREAD_COLOR if p.is_color else cv2.IMREAD_GRAYSCALE
        try:
            image = decode(Path(path).read_bytes(), flag)
        except (OSError, DataError) as error:
            raise DataError(
                f"{path} can't be read as a picture. Take it from {p.source}, or mend it."
            ) from error
        if not p.new_height:
            return image
        image = cv2.resize(image.transpose(1, 2, 0), (p.new_width, p.new_height))
        return image[None] if image.ndim == 2 else image.transpose(2, 0, 1)


def read_list(source: str, root: str = "") -> list[tuple[str, int]]:
    """(path, label) of each line `path label`; the label stands after the last blank.

    `root` goes before each path as it is. Raises `DataError` with the line's number for a line of
    another form or a file that isn't there.
    """
    try:
        text = Path(source).read_bytes().decode("utf-8", "surrogateescape")
    except OSError as error:
        raise DataError(f"{source}: {error.strerror}. Check `source`.") from error
    lines = text.removesuffix("\n").split("\n")
    if not text:
        raise DataError(f"{source} is empty.")
    entries = []
    for number, line in enumerate(lines, 1):
        match = re.fullmatch(r"(.+) ([+-]?\d+)\r?", line)
        if match is None:
            raise DataError(
                f"{source}, line {number}: {line!r} is not `path label`, a blank and a number at the end."
            )
        path = root + match.group(1)
        if not _there(path):
            hint = "" if root.endswith("/") or not root else " root_folder must end with a slash."
            raise DataError(f"{source}, line {number}: there is no file {path}.{hint}")
        entries.append((path, int(match.group(2))))
    return entries


def _there(path: str) -> bool:
    try:
        os.stat(path)
    except OSError:
        return False
    return True
