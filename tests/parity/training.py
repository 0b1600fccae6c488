"""One solver in both engines: `caffe train` and recaffe's `train`, each with its log of Caffe's form."""

from __future__ import annotations

import math
import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from recaffe.engines.base import TrainJob
from recaffe.engines.torch.train import train
from tests.parity.caffe_client import environment


def caffe_train(home: Path, solver: str, *flags: str, quiet: bool = False) -> str:
    """Run `caffe train` here and return its log; raises `AssertionError` with it if it fails."""
    Path("theirs.prototxt").write_text(solver)
    command = [str(home / "bin" / "caffe"), "train", "--solver=theirs.prototxt", *flags]
    env = {**environment(home), "GLOG_minloglevel": "1" if quiet else "0"}
    done = subprocess.run(command, capture_output=True, text=True, env=env, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stderr


def torch_train(solver: str, weights: Path | None = None, resume: Path | None = None) -> str:
    """Train with the torch engine here, as `recaffe train` does, and return its log."""
    Path("ours.prototxt").write_text(solver)
    log = Path("ours.log")
    log.unlink(missing_ok=True)  # a resumed run goes on with its log
    train(TrainJob(Path("ours.prototxt"), weights=weights, log=log, device="cpu", resume=resume))
    return log.read_text(encoding="utf-8")


def losses(log: str) -> dict[int, float]:
    """Iteration → loss, of the lines that both engines write before an update."""
    found = re.findall(r"Iteration (\d+) \(.*\), loss = (\S+)", log)
    return {int(iteration): float(loss) for iteration, loss in found}


def last_accuracy(log: str) -> float:
    """The last test's accuracy."""
    return float(re.findall(r"Test net output #\d+: accuracy = (\S+)", log)[-1])


def furthest(ours: dict[int, float], theirs: dict[int, float]) -> float:
    """The greatest relative difference of two curves, which must have the same iterations."""
    assert ours.keys() == theirs.keys()
    assert all(map(math.isfinite, (*ours.values(), *theirs.values())))
    return max(abs(ours[i] - theirs[i]) / abs(theirs[i]) for i in theirs)


@contextmanager
def shown(request: pytest.FixtureRequest, title: str) -> Iterator[list[str]]:
    """Lines that are printed past pytest's capture when a module's tests are over."""
    lines: list[str] = []
    yield lines
    capture = request.config.pluginmanager.getplugin("capturemanager")
    with capture.global_and_fixture_disabled():
        print(f"\n\n{title}", *lines, sep="\n")
