"""A workflow under way, its jobs' processes, and signals for them."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.workflow import running
from tests.workflow.faults.small import Small

RUNS = int(os.environ.get("RECAFFE_FAULT_RUNS", "10"))
THOROUGH = RUNS > 10  # at night
PATIENCE = 600.0  # seconds for what takes a few on an idle machine: only a hang is longer
SIGNALS = (
    (signal.SIGKILL, "job"),
    (signal.SIGKILL, "snakemake"),
    (signal.SIGKILL, "all"),
    (signal.SIGTERM, "job"),
    (signal.SIGTERM, "snakemake"),
    (signal.SIGTERM, "all"),
    (signal.SIGINT, "all"),
)
# What each rule makes, in their order.
OUTPUTS = {
    "scan": ["data/manifest.csv"],
    "split": ["data/lists.json"],
    "lmdb": ["data/train_lmdb", "data/val_lmdb.json"],
    "mean": ["data/mean.binaryproto"],
    "patch": ["first/net.json"],
    "solver": ["first/solver.prototxt"],
    "train": ["first/final.caffemodel", "first/snapshots"],
    "predict": ["first/predictions.csv"],
    "linear": ["first/linear.json"],
    "metrics": ["first/metrics.json"],
    "model": ["first/model/model.json"],
    "report": ["report.html"],
}
# Rules of LMDBs in shards, and the scripts by which they run.
SHARDED = {"lmdb_shard": "lmdb", "join_lmdb": "join_lmdb", "mean_shard": "mean_shard"}


class Asked(NamedTuple):
    """The script of a rule that the config asks for, and what it makes."""

    script: str
    files: tuple[str, ...]


OPTIONAL = {
    "heat_maps": Asked("heat_maps", ("first/heat_maps.json",)),
    "lr_range": Asked("lr_range", ("first/lr_range.json", "first/lr_range.csv")),
    "onnx": Asked("export_onnx", ("first/model/model.onnx",)),
    "folds": Asked("folds", ("folds.json", "summary.txt")),
}


class Started:
    """A workflow that runs in a session of its own, as from a terminal."""

    def __init__(self, small: Small, process: subprocess.Popen[bytes]) -> None:
        self.small, self.process = small, process
        self._output: list[bytes] = []
        # Through a pipe, which limits of a file's size don't touch.
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def job(self, rule: str) -> int | None:
        """The process of a rule's script, once there is one."""
        script = f"{self.small.folder}/.snakemake/scripts/tmp".encode()
        for child in self._children():
            with suppress(OSError):
                words = Path(f"/proc/{child}/cmdline").read_bytes().split(b"\0")
                if any(
                    w.startswith(script) and w.endswith(f".{rule}.py".encode()) for w in words[:3]
                ):
                    return child
        return None

    def _children(self) -> list[int]:
        """Found quickly, for a job may be over in a moment."""
        found: list[int] = []
        with suppress(OSError):
            for thread in Path(f"/proc/{self.process.pid}/task").iterdir():
                with suppress(OSError):
                    found += map(int, (thread / "children").read_text().split())
        return found

    def wait_for(self, rule: str, log: Path | None = None) -> int | None:
        """The rule's process when it starts, or when it has opened its log; None if that never was."""
        deadline = time.monotonic() + PATIENCE
        while self.process.poll() is None and time.monotonic() < deadline:
            pid = self.job(rule)
            if pid is not None and (log is None or log.exists()):
                return pid
            time.sleep(0.005)
        return None

    def send(self, number: signal.Signals, target: str, job: int) -> None:
        """To the `job`, to `snakemake`, or to `all` that a terminal would reach."""
        with suppress(ProcessLookupError):
            if target == "all":
                os.killpg(self.process.pid, number)
            else:
                os.kill(job if target == "job" else self.process.pid, number)

    @property
    def said(self) -> str:
        """All that it said until its processes ended."""
        self.read_to_the_end()
        return b"".join(self._output).decode("utf-8", "replace")

    def read_to_the_end(self) -> None:
        """Wait until nothing holds the pipe: closed under its reader it is an error in that thread."""
        self._reader.join(PATIENCE)

    def _read(self) -> None:
        assert self.process.stdout is not None
        self._output.extend(self.process.stdout)


@contextmanager
def started(small: Small, *options: str) -> Iterator[Started]:
    """Run the workflow beside the test; whatever is left of it is killed at the end."""
    command = running.command(small.file, *options, root=small.root, cores=2)
    with subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        cwd=small.folder, env=running.environment(), start_new_session=True,
    ) as process:  # fmt: skip
        run = Started(small, process)
        try:
            yield run
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            run.read_to_the_end()


def disturb(
    prepare: Callable[[int], Small], script: str, kind: int, delay: float, *options: str
) -> tuple[Small, str]:
    """Send one of `SIGNALS` to a workflow while a rule's script runs, then run the same command again.

    `delay` are seconds from the script's start; where it is over by then, another folder of `prepare`
    is disturbed sooner. Returns the folder, and what both runs said.
    """
    what, target = SIGNALS[kind]
    for attempt in range(8):
        small = prepare(attempt)
        with started(small, *options) as run:
            job = run.wait_for(script)
            if job is None:  # over before this process had its turn, as on a busy machine
                assert run.process.wait(PATIENCE) == 0, run.said
                continue
            time.sleep(delay)
            if run.job(script) == job:
                run.send(what, target, job)
                run.process.wait(PATIENCE)
                # Here, as a job whose Snakemake was killed may still be ending.
                small.run(*options, cores=2)
                return small, run.said + small.said
        delay /= 2
    pytest.fail("the rule is over before it can be disturbed")


def forget(small: Small, rule: str) -> None:
    """Remove what the rule and those after it made."""
    rules = list(OUTPUTS)
    for later in rules[rules.index(rule) :]:
        for name in OUTPUTS[later]:
            path = small.results / name
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)


def leftovers(small: Small) -> list[Path]:
    """Files that something wrote aside and left, and locks."""
    return [*small.results.rglob(".*.tmp"), *(small.folder / ".snakemake" / "locks").glob("*")]
