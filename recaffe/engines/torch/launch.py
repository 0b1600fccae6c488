"""Training in several processes, here or on several nodes: `torchrun` starts and watches them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from types import FrameType
from typing import Any

from recaffe import progress, stop
from recaffe.engines import jobfile
from recaffe.engines.base import TrainJob, TrainResult
from recaffe.engines.torch import devices, nets, nodes
from recaffe.engines.torch.train import train
from recaffe.errors import ConfigError, TrainError

# The folder where each process of a launch says how it ended.
REPORTS = "RECAFFE_REPORTS"
# Ends the names of the files there in which each says its number.
PID = ".pid"
# Seconds that a stopped process has to write its last snapshot.
GRACE = 600


def run(job: TrainJob) -> TrainResult:
    """Train on as many devices as the job wants: here, or in that many processes.

    Raises what `train` raises, wherever it happened.
    """
    if job.devices == job.nodes == 1:
        return train(job)
    batch_size = _batch_size(job)
    count = devices.processes(job.devices, job.device, batch_size // job.nodes)
    if batch_size % (count * job.nodes):
        on = f" on each of {job.nodes} nodes" if job.nodes > 1 else ""
        raise ConfigError(
            f"devices is {count}{on}, which doesn't divide batch_size {batch_size}: every device "
            "gets the same share of a batch. Change one of them."
        )
    return train(job) if count * job.nodes == 1 else _torchrun(job, count)


def _batch_size(job: TrainJob) -> int:
    """The batch of the net's data layers in TRAIN."""
    source = nets.train_net(nets.read_solver(job.solver), job.level, job.stages)
    return source.feed(seed=0).batch_size


def _torchrun(job: TrainJob, count: int) -> TrainResult:
    # Where all nodes see it, if there are others.
    shared = job.snapshots.resolve() if job.nodes > 1 and job.snapshots is not None else None
    if shared is not None:
        shared.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix="recaffe-", dir=shared) as name:
        folder = Path(name)
        (folder / "job.json").write_text(jobfile.to_json(job), encoding="utf-8")
        torchrun = [sys.executable, "-m", "torch.distributed.run"]
        options = [
            f"--nproc-per-node={count}", f"--shutdown-timeout={GRACE}",
            "--signals-to-handle=SIGTERM",
            "-m", "recaffe.engines.torch.worker", str(folder / "job.json"),
        ]  # fmt: skip
        if job.nodes > 1:
            command = nodes.command(torchrun, options, job.nodes, count * job.threads)
        else:
            command = [*torchrun, "--standalone", *options]
        env = {k: v for k, v in os.environ.items() if k != "RECAFFE_TTY"}
        env |= {REPORTS: name, "OMP_NUM_THREADS": str(job.threads)}
        with _deaf_children():
            process = subprocess.Popen(command, env=env, stderr=subprocess.PIPE, text=True)
        with process:
            relay = threading.Thread(target=_relay, args=(process, job.title))
            relay.start()
            notes = [folder / f"rank{i}{PID}" for i in range(count)]
            with _passing_signals_on(process, job, notes):
                process.wait()
            relay.join()
        return _outcome(folder, count * job.nodes)


def _relay(process: subprocess.Popen[str], title: str) -> None:
    """Pass on what the processes say."""
    assert process.stderr is not None
    for said in process.stderr:
        progress.relay(said, title)


@contextmanager
def _deaf_children() -> Iterator[None]:
    """What is started within doesn't hear the signals of a terminal: it shares that with this process,
    which knows what they mean, and passes them on. A training's process unblocks them."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT, signal.SIGHUP))
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def _passing_signals_on(
    process: subprocess.Popen[str], job: TrainJob, notes: Sequence[Path]
) -> Iterator[None]:
    """A request to stop becomes one SIGTERM for torchrun, which passes it on to all processes; one for
    a snapshot goes to the first process as it is, and a second Ctrl-C, which doesn't wait for a
    snapshot, to all of this node, whose numbers are in `notes`."""
    effects = {signal.SIGINT: job.sigint_effect, signal.SIGHUP: job.sighup_effect}
    stopping, hurried, since = threading.Event(), threading.Event(), 0.0

    def handler(number: int, frame: FrameType | None) -> None:
        nonlocal since
        effect = effects.get(signal.Signals(number), "stop")
        if effect == "snapshot":
            _send(number, notes[0])
        elif effect == "stop" and not stopping.is_set():
            stopping.set()
            since = time.monotonic()
            process.send_signal(signal.SIGTERM)
        elif effect == "stop" and number == signal.SIGINT and not stop.is_echo(since):
            hurried.set()
            for note in notes:
                _send(number, note)

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    old = {s: signal.signal(s, handler) for s in (*effects, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, previous in old.items():
            signal.signal(number, previous)
    if hurried.is_set():
        raise KeyboardInterrupt


def _send(number: int, note: Path) -> None:
    """Send a signal to the process whose number is noted; none before it is there."""
    with suppress(FileNotFoundError, ProcessLookupError, ValueError):
        os.kill(int(note.read_text(encoding="ascii")), number)


def _outcome(folder: Path, count: int) -> TrainResult:
    reports: dict[int, dict[str, Any]] = {
        rank: outcome
        for rank in range(count)
        if (outcome := jobfile.read_outcome(folder / f"rank{rank}.json")) is not None
    }
    if "result" in reports.get(0, {}):
        return jobfile.result_of(reports[0])
    failed = [r for r in reports.values() if "error" in r]
    # One that only lost the others comes last: theirs is the cause.
    for report in sorted(failed, key=lambda r: r["error"] == "OtherProcessLost"):
        if report["error"] == "OtherProcessLost":
            break
        return jobfile.result_of(report)
    silent = [str(r) for r in range(count) if r not in reports]
    raise TrainError(
        f"Process {' and '.join(silent) or '0'} of the {count} that train together ended without a "
        "word: killed from outside (for lack of memory, perhaps) or by a defect. What it said last "
        "is in the log. Run the same command again to go on from the last snapshot."
    )
