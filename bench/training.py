"""A training step and a test, beside real Caffe on the same net, weights and records."""

from __future__ import annotations

import itertools
import re
import statistics
import sys
from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path

import cv2
import lmdb
import numpy as np
from google.protobuf import text_format

from bench import plain
from bench.measure import Row, said, seconds
from recaffe.proto import caffe_pb2 as pb

# glog writes the month and day, newer ones the year before them.
_LINE = re.compile(r"^I(?:\d{4})??\d{4} ([\d:.]+).*Iteration \d+.*, loss = (\S+)", re.MULTILINE)
_THREADS = (1, 2)  # of Caffe's OpenBLAS; its own layers have no threads
_SKIPPED = 2  # the first steps allocate memory
CLASSES = 10
_WEIGHTED = ("Convolution", "InnerProduct")


class Net:
    """A net of models/ on an LMDB of records of its crop's size, so that nothing is left to chance."""

    def __init__(self, work: Path, caffe: Path, name: str, batch: int, steps: int) -> None:
        self.work, self.caffe, self.name = work / f"{name}_{batch}", caffe, name
        self.work.mkdir(parents=True, exist_ok=True)
        self.batch, self.steps = batch, steps + _SKIPPED
        published = Path(__file__).parents[1] / "models" / name / "train_val.prototxt"
        self.net = text_format.Parse(published.read_text(encoding="utf-8"), pb.NetParameter())
        side = 0
        source = self.work / "lmdb"
        for layer in self.net.layer:
            if layer.type == "Data":
                side = layer.transform_param.crop_size
                layer.ClearField("transform_param")
                layer.transform_param.mean_value.extend([104, 117, 123])
                layer.data_param.source, layer.data_param.batch_size = str(source), batch
        fill(source, side, 2 * batch)
        self.write("net", self.net)
        # Dropout draws from another generator in each program: for the comparison of losses it goes.
        fixed = pb.NetParameter()
        fixed.CopyFrom(self.net)
        del fixed.layer[:]
        fixed.layer.extend(la for la in self.net.layer if la.type != "Dropout")
        self.write("fixed", fixed)
        self.weights = self._start()

    def write(self, name: str, net: pb.NetParameter) -> None:
        """Write a variant of the net and its solver under a name."""
        (self.work / f"{name}.prototxt").write_text(text_format.MessageToString(net))
        solver = pb.SolverParameter(
            net=str(self.work / f"{name}.prototxt"), base_lr=1e-4, lr_policy="fixed", momentum=0.9,
            weight_decay=5e-4, max_iter=self.steps, display=1, snapshot_after_train=False,
            snapshot_prefix=str(self.work / name), random_seed=1, solver_mode=pb.SolverParameter.CPU,
        )  # fmt: skip
        (self.work / f"{name}_solver.prototxt").write_text(text_format.MessageToString(solver))

    def _start(self) -> Path:
        """Weights as Caffe's own fillers draw them."""
        file = self.work / "start_solver.prototxt"
        solver = text_format.Parse(
            (self.work / "net_solver.prototxt").read_text(), pb.SolverParameter()
        )
        solver.max_iter, solver.snapshot_after_train = 0, True
        solver.snapshot_prefix = str(self.work / "start")
        file.write_text(text_format.MessageToString(solver))
        said([self.caffe / "bin/caffe", "train", f"--solver={file}"])
        return self.work / "start_iter_0.caffemodel"

    def steps_of(self, program: list[str | Path], threads: int, name: str = "net") -> list[float]:
        """Seconds of each step, by the times of the log's lines."""
        text = said(
            [*program, "train", f"--solver={self.work / name}_solver.prototxt", f"--weights={self.weights}"],
            {"OPENBLAS_NUM_THREADS": str(threads), "OMP_NUM_THREADS": str(threads), "GLOG_logtostderr": "1"},
        )  # fmt: skip
        found = _LINE.findall(text)
        self.losses = [float(loss) for _, loss in found]
        times = [datetime.strptime(when, "%H:%M:%S.%f") for when, _ in found]
        steps = [(b - a).total_seconds() for a, b in itertools.pairwise(times)]
        if len(steps) < self.steps - 1 - _SKIPPED:
            raise RuntimeError(f"{self.name}: no steps in the log: {text[-1000:]}")
        return steps[_SKIPPED - 1 :]

    def step(self, program: list[str | Path], threads: int, name: str = "net") -> float:
        """The median step of one training."""
        return statistics.median(self.steps_of(program, threads, name))

    def best_threads(self, program: list[str | Path]) -> int:
        """The number of threads with which Caffe is fastest: more aren't always better."""
        return min(_THREADS, key=lambda threads: self.step(program, threads))

    def apart(self, ours: list[str | Path], theirs: list[str | Path]) -> float:
        """The largest relative difference of the losses of the first steps, without dropout."""
        self.steps_of(ours, 2, "fixed")
        mine = np.array(self.losses)
        self.steps_of(theirs, 1, "fixed")
        return float(np.abs(mine / np.array(self.losses[: len(mine)]) - 1).max())


def fill(path: Path, side: int, count: int) -> None:
    """An LMDB of smooth noise."""
    if path.exists():
        return
    rng = np.random.default_rng(0)
    size = count * side * side * 4 + 2**24
    with lmdb.open(str(path), map_size=size) as env, env.begin(write=True) as txn:
        for i in range(count):
            low = rng.integers(0, 256, (side // 8, side // 8, 3), dtype=np.uint8)
            image = cv2.resize(low, (side, side), interpolation=cv2.INTER_CUBIC)
            datum = pb.Datum(label=i % CLASSES, channels=3, height=side, width=side)
            datum.data = image.transpose(2, 0, 1).tobytes()
            txn.put(f"{i:08}".encode(), datum.SerializeToString())


NETS = (
    ("caffenet", 16, 8, 1.6), ("caffenet", 64, 5, 1.6), ("squeezenet_v1.1", 16, 8, 2.0),
    ("googlenet", 8, 5, 2.0), ("vgg16", 4, 4, 2.0),
)  # fmt: skip


def rows(
    work: Path,
    caffe: Path,
    recaffe: Path,
    runs: int,
    quick: bool,
    only: Sequence[str] | None = None,
) -> Iterator[Row]:
    """Training steps, then tests; of the nets that `only` names, if it does."""
    ours: list[str | Path] = [recaffe]
    theirs: list[str | Path] = [caffe / "bin/caffe"]
    for name, batch, steps, target in [("squeezenet_v1.1", 2, 2, 2.0)] if quick else NETS:
        if only and name not in only:
            continue
        net = Net(work, caffe, name, batch, steps)
        apart = net.apart(ours, theirs)
        assert apart < 1e-3, (name, apart)
        best = net.best_threads(theirs)
        # recaffe is measured as the workflow runs it: with all cores.
        pairs = [(net.step(ours, 2), net.step(theirs, best)) for _ in range(runs)]
        yield Row(
            f"training step, {name}, batch {batch}",
            f"caffe train, {best} thread{'s' * (best > 1)}",
            [a for a, _ in pairs], [b for _, b in pairs], target,
            f"losses at most {apart:.1g} apart",
        )  # fmt: skip
        if name in plain.NETS:
            yield _beside_plain(net, ours, runs)
        if (name, batch) == ("squeezenet_v1.1", 16) or quick:
            yield from _frozen(net, ours, runs)
        if (name, batch) in (("caffenet", 64), ("squeezenet_v1.1", 16)) or quick:
            yield _test(net, ours, theirs, runs, 4 if quick else 1280)


def _beside_plain(net: Net, ours: list[str | Path], runs: int) -> Row:
    """The same step, in a net written by hand on data in memory."""
    command = [sys.executable, "-m", "bench.plain", net.name, net.batch, net.steps, 2]

    def step() -> float:
        found = said(list(map(str, command)), cwd=Path(__file__).parents[1])
        return statistics.median([float(x) for x in found.split()][_SKIPPED:])

    pairs = [(net.step(ours, 2), step()) for _ in range(runs)]
    return Row(
        f"training step, {net.name}, batch {net.batch}", "PyTorch by hand, data in memory",
        [a for a, _ in pairs], [b for _, b in pairs], 0.95, "",
    )  # fmt: skip


def _frozen(net: Net, ours: list[str | Path], runs: int) -> Iterator[Row]:
    """Steps that train a part only, beside the step that trains all."""
    layers = [layer for layer in net.net.layer if layer.type in _WEIGHTED]
    for share, kept in (("half of the weighted layers", len(layers) // 2), ("the last one", 1)):
        part = pb.NetParameter()
        part.CopyFrom(net.net)
        trained = {layer.name for layer in layers[-kept:]}
        for layer in part.layer:
            if layer.type in _WEIGHTED and layer.name not in trained:
                del layer.param[:]
                layer.param.add(lr_mult=0), layer.param.add(lr_mult=0)
        net.write("frozen", part)
        pairs = [(net.step(ours, 2, "frozen"), net.step(ours, 2)) for _ in range(runs)]
        yield Row(
            f"training step, {net.name}, batch {net.batch}, training {share}", "training all",
            [a for a, _ in pairs], [b for _, b in pairs], None, "",
        )  # fmt: skip


def _test(
    net: Net, ours: list[str | Path], theirs: list[str | Path], runs: int, records: int
) -> Row:
    """The same number of batches scored; whole processes."""
    batches = max(2, records // net.batch)
    flags = ["test", f"--model={net.work / 'net.prototxt'}", f"--weights={net.weights}"]

    def run(program: list[str | Path], threads: int) -> float:
        numbers = {"OPENBLAS_NUM_THREADS": str(threads), "OMP_NUM_THREADS": str(threads)}
        return seconds([*program, *flags, f"--iterations={batches}"], numbers)

    def scores(program: list[str | Path]) -> dict[str, float]:
        text = said([*program, *flags, f"--iterations={batches}"], {"GLOG_logtostderr": "1"})
        return {k: float(v) for k, v in re.findall(r"\] (\S+) = ([-\d.e]+)", text)}

    mine, caffes = scores(ours), scores(theirs)
    both = mine.keys() & caffes.keys()
    assert both and all(abs(mine[k] - caffes[k]) < 1e-3 for k in both), (mine, caffes)
    best = min(_THREADS, key=lambda n: run(theirs, n))
    pairs = [(run(ours, 2), run(theirs, best)) for _ in range(runs)]
    return Row(
        f"test, {net.name}, {batches} batches of {net.batch}", "caffe test",
        [a for a, _ in pairs], [b for _, b in pairs], 2.0, "scores equal",
    )  # fmt: skip
