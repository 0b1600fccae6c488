"""The HDF5Data layer: rows of datasets in the files that a list names."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import h5py
import numpy as np
import torch

from recaffe.engines.torch.data.images import SHUFFLE
from recaffe.engines.torch.data.source import Blobs, Placed, Setting, Step
from recaffe.engines.torch.data.transform import generator
from recaffe.errors import DataError, NetError
from recaffe.net import hdf5
from recaffe.net.kinds import HDF5_ERRORS
from recaffe.net.shapes import Shape
from recaffe.proto import caffe_pb2 as pb

Arrays = dict[str, np.ndarray]


class Hdf5Data(Placed):
    """HDF5Data: each top is the dataset of its name. With `shuffle`, an epoch's order of the files
    and of each file's rows follow from the seed. As in Caffe, a file is in memory as a whole."""

    def __init__(self, layer: pb.LayerParameter, setting: Setting) -> None:
        super().__init__(layer, setting)
        p = layer.hdf5_data_param
        self.want_batch()
        if not self.tops:
            raise NetError("it has no top.")
        if layer.HasField("transform_param"):
            raise NetError("HDF5Data has no transform_param: transform the data in the files.")
        self.shuffle = p.shuffle
        self.files = _read_list(p.source)
        found = [_shapes(file, self.tops) for file in self.files]
        for file, shapes in zip(self.files, found, strict=True):
            for top in self.tops:
                if shapes[top][1:] != found[0][top][1:]:
                    raise DataError(
                        f"{file}: rows of {top!r} are {shapes[top][1:]}, and {found[0][top][1:]} in "
                        f"{self.files[0]}."
                    )
        self.rows = [shapes[self.tops[0]][0] for shapes in found]
        self.records = sum(self.rows)
        self._shapes = {top: (self.batch_size, *found[0][top][1:]) for top in self.tops}
        self._file = lru_cache(maxsize=2)(self._read)

    @property
    def shapes(self) -> dict[str, Shape]:
        """What the datasets say."""
        return self._shapes

    def load(self, step: Step) -> Blobs:
        """Rows of one file, or of several where it ends within the batch."""
        assert self.records
        n = len(step.rows)
        out = {
            top: self.setting.buffers.empty((n, *shape[1:]), torch.float32)
            for top, shape in self._shapes.items()
        }
        done = 0
        while done < n:
            epoch, at = divmod(step.start + done, self.records)
            for file in self._order(epoch, -1, len(self.files)):
                if at < self.rows[file]:
                    break
                at -= self.rows[file]
            rows = self._order(epoch, int(file), self.rows[file])[at : at + n - done]
            for top, array in self._file(int(file)).items():
                out[top][done : done + len(rows)] = torch.from_numpy(array[rows])
            done += len(rows)
        return dict(out)

    def _order(self, epoch: int, file: int, n: int) -> np.ndarray:
        """Of the files (-1), or of the rows of a file."""
        if not self.shuffle:
            return np.arange(n)
        return generator(
            self.setting.seed, epoch, SHUFFLE, file + 1, self.setting.stream
        ).permutation(n)

    def _read(self, file: int) -> Arrays:
        try:
            with h5py.File(self.files[file], "r") as f:
                return {top: hdf5.values(hdf5.member(f, top)) for top in self.tops}
        except HDF5_ERRORS as error:
            raise DataError(f"{self.files[file]} has changed, or is broken: {error}.") from error


def _read_list(source: str) -> list[str]:
    """File names, which end at a blank, as Caffe reads them."""
    try:
        lines = Path(source).read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(
            f"{source}, which should name HDF5 files: {error}. Check `source`."
        ) from error
    files = []
    for number, line in enumerate(lines, 1):
        for name in line.split():
            if not Path(name).is_file():
                raise DataError(f"{source}, line {number}: there is no file {name}.")
            files.append(name)
    if not files:
        raise DataError(f"{source} names no file.")
    return files


def _shapes(file: str, tops: list[str]) -> dict[str, Shape]:
    """Dataset → shape, all with as many rows."""
    try:
        with h5py.File(file, "r") as f:
            out: dict[str, Shape] = {}
            for top in tops:
                if top not in f:
                    raise DataError(
                        f"{file} has no dataset {top!r}, only {', '.join(f) or 'nothing'}."
                    )
                data = hdf5.member(f, top)
                hdf5.check(data)
                if data.dtype.kind not in "fiu" or not data.ndim:
                    raise DataError(
                        f"{file}: {top!r} is of {data.dtype} and shape {data.shape}; HDF5Data wants "
                        "rows of numbers."
                    )
                out[top] = tuple(map(int, data.shape))
    except HDF5_ERRORS as error:
        raise DataError(
            f"{file} can't be read as HDF5: {error}. Each top is to be one dataset in the file itself."
        ) from error
    rows = {shape[0] for shape in out.values()}
    if len(rows) > 1 or 0 in rows:
        raise DataError(f"{file}: all datasets must have as many rows, and at least one: {out}.")
    return out
