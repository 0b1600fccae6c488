"""What a training in a container sees of the machine: its own files, under their own paths."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from docker.types import Mount
from google.protobuf.message import Message

from recaffe.engines.base import TrainJob
from recaffe.net.parse import read_net, to_solver
from recaffe.solver import weights as weights_of

# Fields of a layer's parameters that name a file or an LMDB.
_FILES = ("source", "mean_file")


def mounts(job: TrainJob) -> list[Mount]:
    """Read-only all that the job reads, and writable its folder of snapshots alone.

    A file that isn't there is left out: the engine that misses it says so best.
    """
    assert job.snapshots is not None, "a workflow's job"
    read = sorted({os.path.abspath(p) for p in inputs(job) if p.exists()})
    return [
        *(_mount(path, read_only=True) for path in read),
        _mount(os.path.abspath(job.snapshots), read_only=False),
    ]


def inputs(job: TrainJob) -> Iterator[Path]:
    """The solver, the nets it names, their LMDBs and means, and the weights to start from."""
    yield job.solver
    plan = to_solver(job.solver.read_text(encoding="utf-8"), str(job.solver))
    nets = [Path(name) for name in (plan.net, plan.train_net, *plan.test_net) if name]
    yield from nets
    for path in nets:
        for layer in read_net(path).layer:
            yield from _named(layer)
    given = job.weights if isinstance(job.weights, tuple) else (job.weights,)
    yield from (p for p in (*given, job.resume) if p is not None)
    yield from map(Path, weights_of(plan))


def _named(layer: Message) -> Iterator[Path]:
    for _, value in layer.ListFields():
        if not isinstance(value, Message):
            continue
        for field, named in value.ListFields():
            if field.name in _FILES and named:
                yield Path(named)


def _mount(path: str, *, read_only: bool) -> Mount:
    # Inside, a path with links in it becomes one of plain folders.
    return Mount(target=path, source=os.path.realpath(path), type="bind", read_only=read_only)
