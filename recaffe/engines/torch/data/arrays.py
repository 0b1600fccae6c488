"""Data layers that read no file: MemoryData, DummyData, Input."""

from __future__ import annotations

import numpy as np
import torch

from recaffe.engines.torch.data.mixup import Blobs
from recaffe.engines.torch.data.source import Placed, Setting, Step
from recaffe.engines.torch.fillers import fill
from recaffe.errors import DataError, NetError
from recaffe.net.inputs import dummy_shapes, one_for_each
from recaffe.net.shapes import Shape
from recaffe.proto import caffe_pb2 as pb

Given = tuple[np.ndarray, np.ndarray]  # data N×C×H×W, labels N


class MemoryData(Placed):
    """MemoryData: arrays that a program gives, not transformed (as pycaffe's set_input_arrays)."""

    def __init__(self, layer: pb.LayerParameter, setting: Setting, given: Given | None) -> None:
        super().__init__(layer, setting)
        p = layer.memory_data_param
        self.want_tops(2, 2)
        self.want_batch()
        self.record = (p.channels, p.height, p.width)
        if min(self.record) < 1:
            raise NetError("channels, height and width of memory_data_param must be set.")
        if given is None:
            raise NetError(
                "MemoryData has its pictures from a program: give them as Feed(memory={layer: "
                "(data, labels)}), or use a Data or HDF5Data layer."
            )
        self.data, labels = (torch.from_numpy(np.ascontiguousarray(x, np.float32)) for x in given)
        self.labels = labels.reshape(-1)
        if tuple(self.data.shape[1:]) != self.record or not len(self.data) == len(self.labels) > 0:
            raise DataError(
                f"the layer wants pictures of N×{'×'.join(map(str, self.record))} and N labels, not "
                f"{tuple(self.data.shape)} and {tuple(labels.shape)}."
            )
        self.records = len(self.data)

    @property
    def shapes(self) -> dict[str, Shape]:
        """Pictures and labels."""
        return dict(
            zip(self.tops, [(self.batch_size, *self.record), (self.batch_size,)], strict=True)
        )

    def load(self, step: Step) -> Blobs:
        """Rows of the arrays."""
        rows = torch.arange(step.start, step.start + len(step.rows)) % len(self.data)
        return dict(zip(self.tops, (self.data[rows], self.labels[rows]), strict=True))


class DummyData(Placed):
    """DummyData: constants made once, random numbers drawn for each batch from seed and index."""

    def __init__(self, layer: pb.LayerParameter, setting: Setting) -> None:
        super().__init__(layer, setting)
        self._shapes = dict(zip(self.tops, self.sizes(), strict=True))
        fillers = one_for_each(self.fillers(), len(self.tops), "data_filler")
        self._fillers = dict(zip(self.tops, fillers, strict=True))
        first = self._shapes[self.tops[0]]
        self.batch_size = first[0] if first else 1
        self._constant = {
            top: torch.from_numpy(fill(self._shapes[top], filler, 0, layer.name))
            for top, filler in self._fillers.items()
            if filler.type == "constant"
        }

    def sizes(self) -> list[Shape]:
        """A shape for each top."""
        return dummy_shapes(self.layer)

    def fillers(self) -> list[pb.FillerParameter]:
        """One filler for all tops, or one for each."""
        return list(self.layer.dummy_data_param.data_filler) or [pb.FillerParameter()]

    @property
    def shapes(self) -> dict[str, Shape]:
        """As the layer says."""
        return self._shapes

    def load(self, step: Step) -> Blobs:
        """All tops; those that have a row for each record of the batch give the step's rows."""
        out: Blobs = {}
        for top, shape in self._shapes.items():
            if top in self._constant:
                blob = self._constant[top]
            else:
                name = f"{self.layer.name}: {top}: {self.setting.stream}: {step.index}"
                blob = torch.from_numpy(fill(shape, self._fillers[top], self.setting.seed, name))
            divided = shape and shape[0] == self.batch_size
            out[top] = blob[step.rows.start : step.rows.stop] if divided else blob
        return out


class Input(DummyData):
    """Input: zeros, until somebody sets something else."""

    def sizes(self) -> list[Shape]:
        """A shape for each top."""
        shapes = [tuple(s.dim) for s in self.layer.input_param.shape]
        return one_for_each(shapes, len(self.tops), "shape")

    def fillers(self) -> list[pb.FillerParameter]:
        """Zeros."""
        return [pb.FillerParameter()]
