"""Which nets a solver trains and tests, and in which state, as Caffe's Solver decides.

Source: `Solver::InitTrainNet` and `InitTestNets` of BVLC Caffe 1.0.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from recaffe import solver
from recaffe.augment import Augment
from recaffe.engines.base import TrainJob
from recaffe.engines.torch.data import Feed
from recaffe.engines.torch.distributed import Group
from recaffe.errors import ConfigError
from recaffe.net import parse
from recaffe.proto import caffe_pb2 as pb


@dataclass(frozen=True)
class Source:
    """A net, its `state` filled in, and what the solver calls it."""

    net: pb.NetParameter
    said: str

    def feed(self, seed: int, group: Group | None = None, augment: Augment | None = None) -> Feed:
        """Its data layers, of which this process of the group takes its share."""
        state, group = self.net.state, group or Group()
        return Feed(
            self.net, state.phase, seed, level=state.level, stages=tuple(state.stage),
            rank=group.rank, world=group.world, augment=augment,
        )  # fmt: skip


def read_solver(path: Path) -> pb.SolverParameter:
    """A solver file, checked, with the snapshot_prefix that Caffe would give it.

    Raises `NetError` for what can't be read and `ConfigError` for what Caffe refuses.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} can't be read as a solver.prototxt: {error}.") from error
    p = parse.to_solver(text, str(path))
    solver.check(p)
    if not p.snapshot_prefix:
        p.snapshot_prefix = str(path.with_suffix(""))
    elif Path(p.snapshot_prefix).is_dir():
        p.snapshot_prefix = str(Path(p.snapshot_prefix) / path.stem)
    return p


def start_weights(job: TrainJob, p: pb.SolverParameter) -> tuple[Path, ...]:
    """The files that a training starts from: the job's, or else those that its solver names.

    As in `caffe train`, a solverstate to go on from leaves out what the solver names.
    """
    if job.weights:
        return job.weights if isinstance(job.weights, tuple) else (job.weights,)
    if job.resume is not None:
        return ()
    return tuple(Path(name) for name in solver.weights(p))


def train_net(p: pb.SolverParameter, level: int = 0, stages: tuple[str, ...] = ()) -> Source:
    """The one net to train. `level` and `stages` come on top of the solver's train_state.

    Raises `ConfigError` unless exactly one of Caffe's four fields names a net.
    """
    fields = ("net", "net_param", "train_net", "train_net_param")
    given = [f for f in fields if p.HasField(f)]
    if len(given) != 1:
        raise ConfigError(
            f"The solver names {len(given)} nets to train ({', '.join(given) or 'none'}). Caffe wants "
            f"exactly one of {', '.join(fields)}."
        )
    field = given[0]
    value = getattr(p, field)
    net = _net(value)
    state = pb.NetState(phase=pb.TRAIN)
    state.MergeFrom(net.state)
    state.MergeFrom(p.train_state)
    if level:
        state.level = level
    state.stage.extend(stages)
    net.state.CopyFrom(state)
    kind = {"net": "net file", "train_net": "train_net file"}.get(field)
    if kind is None:
        return Source(net, f"Creating training net specified in {field}.")
    return Source(net, f"Creating training net from {kind}: {value}")


def test_nets(p: pb.SolverParameter) -> list[Source]:
    """All nets to test, in Caffe's order; none where test_interval is 0.

    Raises `ConfigError` if test_iter, test_state and the test nets don't go together.
    """
    nets = list(_test_nets(p))
    if p.test_state and len(p.test_state) != len(nets):
        raise ConfigError(
            f"The solver has {len(p.test_state)} test_state for {len(nets)} test nets. Give one for "
            "each, or none."
        )
    if nets and not p.test_interval:
        raise ConfigError(
            "The solver has test nets (test_iter), but test_interval is 0. Set test_interval, or "
            "remove test_iter."
        )
    out = []
    for i, (net, said) in enumerate(nets):
        state = pb.NetState(phase=pb.TEST)
        state.MergeFrom(net.state)
        if p.test_state:
            state.MergeFrom(p.test_state[i])
        net.state.CopyFrom(state)
        out.append(Source(net, f"Creating test net (#{i}) specified by {said}"))
    return out


def _test_nets(p: pb.SolverParameter) -> Iterator[tuple[pb.NetParameter, str]]:
    own: list[str | pb.NetParameter] = [*p.test_net_param, *p.test_net]
    generic: str | pb.NetParameter = p.net_param if p.HasField("net_param") else p.net
    shared = len(p.test_iter) - len(own)
    if shared < 0 or (shared and not generic):
        raise ConfigError(
            f"The solver has {len(own)} test nets and {len(p.test_iter)} test_iter. Give one "
            "test_iter for each test net."
        )
    for named in own:
        yield _net(named), _said(named, "test_net")
    for _ in range(shared):
        yield _net(generic), _said(generic, "net")


def _net(named: str | pb.NetParameter) -> pb.NetParameter:
    if isinstance(named, str):
        return parse.read_net(named)
    net = pb.NetParameter()
    net.CopyFrom(named)
    return net


def _said(named: str | pb.NetParameter, field: str) -> str:
    return f"{field} file: {named}" if isinstance(named, str) else f"{field}_param"
