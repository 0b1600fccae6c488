"""What is trained: a net of models/ on records of an LMDB and on a batch that lies on the card."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from google.protobuf import text_format

from bench import data_layer, training
from bench.gpu.nets import NETS
from recaffe import mean
from recaffe.config import ROOT
from recaffe.net import graph, parse, weights
from recaffe.proto import caffe_pb2 as pb

_RECORDS, _COMPARED = 1024, 3


@dataclass(frozen=True)
class Length:
    """How long a process trains: `intervals` of so many `steps` count, and one before them doesn't."""

    steps: int = 20
    intervals: int = 4


class Files:
    """A net's files at a batch. Each solver is NAME_solver.prototxt in `folder`; names are

    `lmdb`: the published net on records of 256×256, cropped and mirrored at random as published;
    `synthetic`: the same with its pictures in a Parameter layer, which lies on the card as weights do, so
    that no data layer costs anything.
    """

    def __init__(self, work: Path, name: str, batch: int, length: Length, gpu: bool) -> None:
        self.folder = work / f"{name}_{batch}"
        self.name, self.batch, self.length = name, batch, length
        self.folder.mkdir(parents=True, exist_ok=True)
        self.gpu, self.side = gpu, NETS[name].side
        self.records, self.mean = work / "records", work / "mean.binaryproto"
        if not self.records.exists():
            data_layer.fill(self.records, _RECORDS if gpu else 4 * batch, "raw")
            side = data_layer.SIZE
            mean.write(np.full((3, side, side), 117, np.float32), self.mean)
        self.net = published(name)
        iterations = length.steps * (length.intervals + 1) + 1
        self._write("lmdb", self._from_lmdb(), iterations, length.steps)
        self._write("synthetic", self._on_card(), iterations, length.steps)
        self.noise = self._noise()

    def solver(self, name: str) -> Path:
        """The solver of a variant."""
        return self.folder / f"{name}_solver.prototxt"

    @property
    def start(self) -> Path:
        """The weights that training the solver `start` leaves."""
        return self.folder / "start_iter_0.caffemodel"

    def for_comparison(self) -> None:
        """Add the variant `fixed`, on records of the crop's size and without Dropout: all programs compute
        its losses alike; and `start`, which only writes its first weights."""
        net = self._fixed()
        self._write("fixed", net, _COMPARED, 1)
        self._write("start", net, 0, 1)

    def _write(self, name: str, net: pb.NetParameter, iterations: int, display: int) -> None:
        file = self.folder / f"{name}.prototxt"
        file.write_text(text_format.MessageToString(net), encoding="utf-8")
        mode = pb.SolverParameter.GPU if self.gpu else pb.SolverParameter.CPU
        solver = pb.SolverParameter(
            net=str(file), base_lr=1e-6, lr_policy="fixed", momentum=0.9, weight_decay=5e-4,
            max_iter=iterations, display=display, snapshot_after_train=name == "start",
            snapshot_prefix=str(self.folder / name), random_seed=1, solver_mode=mode,
        )  # fmt: skip
        self.solver(name).write_text(text_format.MessageToString(solver), encoding="utf-8")

    def _from_lmdb(self) -> pb.NetParameter:
        net = copy(self.net)
        data = net.layer[0]
        data.data_param.source, data.data_param.batch_size = str(self.records), self.batch
        if data.transform_param.mean_file:
            data.transform_param.mean_file = str(self.mean)
        return net

    def _on_card(self) -> pb.NetParameter:
        labels = pb.LayerParameter(name="labels", type="DummyData", top=["label"])
        labels.dummy_data_param.shape.add(dim=[self.batch])
        pictures = pb.LayerParameter(name="data", type="Parameter", top=["data"])
        pictures.parameter_param.shape.dim.extend([self.batch, 3, self.side, self.side])
        pictures.param.add(lr_mult=0, decay_mult=0)
        return pb.NetParameter(name=self.net.name, layer=[labels, pictures, *self.net.layer[1:]])

    def _noise(self) -> Path:
        """The pictures of `synthetic`: zeros would let a card run cooler than pictures do."""
        file = self.folder / "noise.caffemodel"
        if not file.exists():
            shape = (self.batch, 3, self.side, self.side)
            values = np.random.default_rng(0).random(shape, np.float32) * 255 - 117
            weights.write(weights.to_net("noise", [("data", "Parameter", [values])]), file)
        return file

    def _fixed(self) -> pb.NetParameter:
        net = copy(self.net)
        source = self.folder / "lmdb"
        training.fill(source, self.side, 2 * self.batch)
        data = net.layer[0]
        data.ClearField("transform_param")
        data.transform_param.mean_value.extend([104, 117, 123])
        data.data_param.source, data.data_param.batch_size = str(source), self.batch
        kept = [layer for layer in net.layer if layer.type != "Dropout"]
        return pb.NetParameter(name=net.name, layer=kept)


def published(name: str) -> pb.NetParameter:
    """The training net of models/, its Data layer first."""
    net = parse.read_net(ROOT / "models" / name / "train_val.prototxt")
    net = pb.NetParameter(name=net.name, layer=graph.of_phase(net, pb.TRAIN))
    for layer in net.layer:
        layer.ClearField("include")
    assert net.layer[0].type == "Data", name
    return net


def copy(net: pb.NetParameter) -> pb.NetParameter:
    """A net of its own."""
    out = pb.NetParameter()
    out.CopyFrom(net)
    return out
