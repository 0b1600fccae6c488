"""Training in several processes of this machine: `torchrun` starts and watches them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, fields
from pathlib import Path
from tempfile import TemporaryDirectory
from types import FrameType
from typing import Any

from recaffe import errors
from recaffe.engines.base import TrainJob, TrainResult
from recaffe.engines.torch import devices, nets
from recaffe.engines.torch.train import train
from recaffe.errors import RecaffeError, TrainError

# The folder where each process of a launch says how it ended.
REPORTS = "RECAFFE_REPORTS"
# Seconds that a stopped process has to write its last snapshot.
GRACE = 600
_PATHS = ("solver", "snapshots", "final", "log", "csv", "resume")


def run(job: TrainJob) -> TrainResult:
    """Train on as many devices as the job wants: here, or in that many processes.

    Raises what `train` raises, wherever it happened.
    """
    count = 1
    if job.devices != 1:
        batch_size = _batch_size(job)
        count = devices.processes(job.devices, job.device, batch_size)
        if batch_size % count:
            raise errors.ConfigError(
                f"devices is {count}, which doesn't divide batch_size {batch_size}: every device "
                "gets the same share of a batch. Change one of them."
            )
    return train(job) if count == 1 else _torchrun(job, count)


def to_json(job: TrainJob) -> str:
    """A job as text, for the processes that do it."""
    return json.dumps(asdict(job), default=str, indent=2)


def from_json(text: str) -> TrainJob:
    """A job from its text; keys that are left out have their defaults.

    Raises `ConfigError` for a key that no job has.
    """
    values = json.loads(text)
    known = {f.name for f in fields(TrainJob)}
    if unknown := sorted(set(values) - known):
        raise errors.ConfigError(f"A job has no {unknown[0]!r}; it has {', '.join(sorted(known))}.")
    for name in _PATHS:
        if values.get(name) is not None:
            values[name] = Path(values[name])
    given = values.get("weights")
    if given is not None:
        values["weights"] = tuple(map(Path, given)) if isinstance(given, list) else Path(given)
    for name in ("copy", "stages"):
        if values.get(name) is not None:
            values[name] = tuple(values[name])
    return TrainJob(**values)


def _batch_size(job: TrainJob) -> int:
    """The batch of the net's data layers in TRAIN."""
    source = nets.train_net(nets.read_solver(job.solver), job.level, job.stages)
    return source.feed(seed=0).batch_size


def _torchrun(job: TrainJob, count: int) -> TrainResult:
    with TemporaryDirectory(prefix="recaffe-") as name:
        folder = Path(name)
        (folder / "job.json").write_text(to_json(job), encoding="utf-8")
        command = [
            sys.executable, "-m", "torch.distributed.run", "--standalone",
            f"--nproc-per-node={count}", f"--shutdown-timeout={GRACE}",
            "--signals-to-handle=SIGTERM,SIGINT",
            "-m", "recaffe.engines.torch.worker", str(folder / "job.json"),
        ]  # fmt: skip
        env = {k: v for k, v in os.environ.items() if k != "RECAFFE_TTY"}
        env |= {REPORTS: name, "OMP_NUM_THREADS": str(job.threads)}
        with subprocess.Popen(command, env=env, stderr=subprocess.PIPE, text=True) as process:
            relay = threading.Thread(target=_relay, args=(process, f"{job.title}: iteration"))
            relay.start()
            with _passing_signals_on(process, job):
                process.wait()
            relay.join()
        return _outcome(folder, count)


def _relay(process: subprocess.Popen[str], progress: str) -> None:
    """Pass on what the processes say; their progress goes to the terminal as well."""
    terminal = os.environ.get("RECAFFE_TTY")
    assert process.stderr is not None
    for line in process.stderr:
        sys.stderr.write(line)
        sys.stderr.flush()
        if terminal is not None and line.startswith(progress):
            os.write(int(terminal), line.encode("utf-8", "replace"))


@contextmanager
def _passing_signals_on(process: subprocess.Popen[str], job: TrainJob) -> Iterator[None]:
    """Signals become one SIGTERM for torchrun, which passes it on to all processes, unless the job
    says that they do nothing. Torchrun passes on no other, so they stop after their snapshot."""
    effects = {signal.SIGINT: job.sigint_effect, signal.SIGHUP: job.sighup_effect}
    sent = threading.Event()

    def handler(number: int, frame: FrameType | None) -> None:
        if effects.get(signal.Signals(number)) != "none" and not sent.is_set():
            sent.set()
            process.send_signal(signal.SIGTERM)

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    old = {s: signal.signal(s, handler) for s in (*effects, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, previous in old.items():
            signal.signal(number, previous)


def _outcome(folder: Path, count: int) -> TrainResult:
    reports: dict[int, dict[str, Any]] = {
        rank: json.loads(path.read_text(encoding="utf-8"))
        for rank in range(count)
        if (path := folder / f"rank{rank}.json").is_file()
    }
    first = reports.get(0, {})
    if "result" in first:
        return TrainResult(**first["result"])
    failed = [r for r in reports.values() if "error" in r]
    # One that only lost the others comes last: theirs is the cause.
    for report in sorted(failed, key=lambda r: r["error"] == "OtherProcessLost"):
        if report["error"] == "OtherProcessLost":
            break
        raise getattr(errors, report["error"], RecaffeError)(report["message"])
    silent = [str(r) for r in range(count) if r not in reports]
    raise TrainError(
        f"Process {' and '.join(silent) or '0'} of the {count} that train together ended without a "
        "word: killed from outside (for lack of memory, perhaps) or by a defect. What it said last "
        "is in the log. Run the same command again to go on from the last snapshot."
    )
