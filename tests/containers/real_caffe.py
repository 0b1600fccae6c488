"""Real Caffe for the caffe engine's tests, and small trainings by it."""

from __future__ import annotations

import csv
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from recaffe.config import ROOT
from recaffe.engines import jobfile
from recaffe.engines.base import TrainJob
from recaffe.engines.caffe import find
from recaffe.errors import MachineError
from tests.training import write_training


def _there() -> bool:
    try:
        find.find()
    except MachineError:
        return False
    return True


needs_caffe = pytest.mark.skipif(
    not _there(), reason="NO REAL CAFFE HERE: build it with `make caffe`, or set CAFFE_HOME"
)


def job_in(folder: Path, key: str = "a", settled: bool = False, **values: Any) -> TrainJob:
    """A small training of 16 iterations; keys of the solver come on top, the rest are the job's.

    A `settled` one has nothing random, and each two iterations are an epoch.
    """
    plan = {k: values.pop(k) for k in list(values) if k in SOLVER_KEYS}
    net = {"batch": 23, "drop": 0.0} if settled else {}
    solver = write_training(folder, **net, **plan)
    if settled:
        file = folder / "net.prototxt"
        text = file.read_text(encoding="utf-8").replace(
            "crop_size: 10 mirror: true", "crop_size: 12"
        )
        file.write_text(text.replace("crop_size: 10", "crop_size: 12"), encoding="utf-8")
    own = folder / key
    return TrainJob(
        solver, own, final=own / "final.caffemodel", log=own / "train.log", csv=own / "train.csv",
        device="cpu", engine="caffe", sighup_effect="stop", **values,
    )  # fmt: skip


SOLVER_KEYS = (
    "max_iter", "test_interval", "snapshot", "base_lr", "display", "average_loss", "test_iter",
)  # fmt: skip


def rows(job: TrainJob) -> list[dict[str, str]]:
    """The training's table."""
    assert job.csv is not None
    with job.csv.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


class Running:
    """A training in a process of its own, as a workflow's script is."""

    def __init__(self, process: subprocess.Popen[str], job: TrainJob) -> None:
        self.process, self.job = process, job

    def caffe(self) -> int:
        """The process of its Caffe, once that trains."""
        assert self.job.log is not None
        self.wait_for("Learning Rate Policy")
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        return int(children.read_text().split()[0])

    def left(self) -> list[int]:
        """The processes of its session, zombies aside: of one that has ended there are none."""
        found = []
        for stat in Path("/proc").glob("[0-9]*/stat"):
            with suppress(OSError):
                number, _, rest = stat.read_text(encoding="utf-8", errors="replace").partition(" ")
                state, _, _, session = rest.rpartition(") ")[2].split()[:4]
                if int(session) == self.process.pid and state != "Z":
                    found.append(int(number))
        return found

    def wait_for(self, words: str) -> None:
        """Until its log has these words; fails if it ends before."""
        assert self.job.log is not None
        while not (self.job.log.exists() and words in self.job.log.read_text(encoding="utf-8")):
            assert self.process.poll() is None, self.said()
            time.sleep(0.02)

    def said(self) -> str:
        """What it said, to its end."""
        return self.process.communicate()[0]


@contextmanager
def running(job: TrainJob, limit: str = "unlimited") -> Iterator[Running]:
    """Train beside the test, with at most `limit` kilobytes of addresses."""
    assert job.snapshots is not None
    job.snapshots.mkdir(exist_ok=True)
    files = job.snapshots / "job.json", job.snapshots / "result.json"
    files[0].write_text(jobfile.to_json(replace(job)), encoding="utf-8")
    train = [sys.executable, "-m", "recaffe.engines.run", *map(str, files)]
    with subprocess.Popen(
        ["bash", "-c", f'ulimit -v {limit}; exec "$@"', "-", *train],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OPENBLAS_NUM_THREADS": "1"},
    ) as process:  # fmt: skip
        try:
            yield Running(process, job)
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


def is_pending(pid: int, number: signal.Signals) -> bool:
    """Whether a process has a signal that it hasn't acted on."""
    lines = Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines()
    mask = next(line for line in lines if line.startswith("ShdPnd")).split()[1]
    return bool(int(mask, 16) & 1 << number - 1)


def is_gone(pid: int) -> bool:
    """Waits until a process has ended; the kernel may take its time to take it down."""
    while True:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            return True
        if state in "ZX":
            return True
        time.sleep(0.02)
