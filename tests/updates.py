"""A solver's updates one by one, over records in their order: what to hold against `caffe train`.

No data layer, no training loop: only the net's gradients and the solver are at work.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import lmdb
import numpy as np
import torch
from google.protobuf import text_format

from recaffe.engines.torch.net import Net
from recaffe.engines.torch.snapshots import restore_from
from recaffe.engines.torch.solvers import Solver, make_solver
from recaffe.lmdb.read import open_lmdb, parse_datum, pixels
from recaffe.net import weights
from recaffe.net.prepare import walk_train
from recaffe.proto import caffe_pb2 as pb


@dataclass
class Data:
    """`pixels` is float32 N×C×H×W as the net sees them, `labels` int64 N; a batch has `batch`."""

    pixels: torch.Tensor
    labels: torch.Tensor
    batch: int

    def take(self, index: int) -> dict[str, torch.Tensor]:
        """Batch number `index`, wrapping around at the end as Caffe's data layer does."""
        rows = (torch.arange(self.batch) + index * self.batch) % len(self.labels)
        return {"data": self.pixels[rows], "label": self.labels[rows]}


def read_data(path: Path, batch: int, scale: float = 1, mean: np.ndarray | float = 0) -> Data:
    """All records of an LMDB, (pixel - mean) · scale."""
    with open_lmdb(path) as env, env.begin() as txn:
        datums = [parse_datum(value) for _, value in txn.cursor()]
    values = np.stack([pixels(d) for d in datums]).astype(np.float32)
    values = (values - np.asarray(mean, np.float32)) * np.float32(scale)
    return Data(torch.from_numpy(values), torch.tensor([d.label for d in datums]), batch)


def write_lmdb(path: Path, records: np.ndarray, labels: np.ndarray) -> None:
    """uint8 N×C×H×W as Caffe's records."""
    path.mkdir(parents=True)
    with lmdb.open(str(path), map_size=1 << 26) as env, env.begin(write=True) as txn:
        for i, (record, label) in enumerate(zip(records, labels, strict=True)):
            c, h, w = record.shape
            datum = pb.Datum(channels=c, height=h, width=w, data=record.tobytes(), label=int(label))
            txn.put(f"{i:08d}".encode(), datum.SerializeToString())


def random_weights(
    param: pb.NetParameter, shape: tuple[int, int, int], batch: int, path: Path, scale: float = 1
) -> None:
    """A caffemodel of random weights, `scale` / √inputs large, for every layer that learns."""
    rng, layers = np.random.default_rng(0), []
    for s in walk_train(param, shape, batch):
        if s.params and s.layer.type != "BatchNorm":
            blobs = [
                rng.normal(0, scale * max(4, np.prod(p[1:])) ** -0.5, p).astype(np.float32)
                for p, _ in s.params
            ]
            layers.append((s.layer.name, s.layer.type, blobs))
    weights.write(weights.to_net(param.name, layers), path)


def solver_from(text: str) -> pb.SolverParameter:
    """A SolverParameter from prototxt text."""
    return text_format.Parse(text, pb.SolverParameter())


def updates(
    param: pb.NetParameter,
    p: pb.SolverParameter,
    data: Data,
    start: Path | None = None,
    state: Path | None = None,
) -> Iterator[tuple[int, float, Net, Solver]]:
    """(updates done, loss before the last one, net, solver), from weights or from a solverstate."""
    torch.set_num_threads(1)  # more only get in each other's way on tensors this small
    inputs = {name: tuple(blob.shape) for name, blob in data.take(0).items()}
    net = Net(param, pb.TRAIN, inputs)
    if start is not None:
        net.load(weights.read(start))
    solver, done = make_solver(net, p), 0
    if state is not None:
        done = restore_from(state, net, solver)
    for iteration in range(done, p.max_iter):
        total = 0.0
        for part in range(p.iter_size):
            loss = net.loss(net(data.take((iteration - done) * p.iter_size + part)))
            loss.backward()
            total += float(loss.detach())
        solver.step(solver.rate(iteration), iteration)
        yield iteration + 1, total / p.iter_size, net, solver
