"""One workflow at a time in a folder, and no job that outlives its workflow.

Snakemake locks what it makes by files that name no process, and a kill leaves them there. The kernel,
however, gives up a killed process's `flock`: so whoever gets that alone knows that no other workflow
lives, and may remove what one left behind. Jobs hold a lock of their own, for which the next workflow
waits: a job whose workflow was killed ends within moments, and must be gone before it is done again.
"""

from __future__ import annotations

import fcntl
import os
import platform
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TextIO

from recaffe.files import is_alive

_WORKFLOW, _JOBS = ".snakemake/recaffe.workflow.lock", ".snakemake/recaffe.jobs.lock"
# Tells a job which process in which session of which machine its workflow is.
_MAIN = "RECAFFE_MAIN"
_SECONDS_BETWEEN_LOOKS = 0.5
_PATIENCE = 120.0  # seconds for jobs of a killed workflow to end; a training's step may be long

_held: list[TextIO] = []  # open, and so locked, for as long as this process lives


def begin(folder: Path | str = ".") -> bool:
    """Called by a workflow's main process; whether no other workflow is at work in `folder`.

    If so, locks that a killed Snakemake left are removed. On a disk whose locks other machines
    don't see, only if no other machine has worked there since: Snakemake's own message then says
    how to remove them. Where nothing can be locked, Snakemake's own locks are all there is.
    """
    os.environ[_MAIN] = f"{_place()}:{os.getpid()}"
    workflow, jobs = Path(folder, _WORKFLOW), Path(folder, _JOBS)
    try:
        workflow.parent.mkdir(exist_ok=True)
        file = workflow.open("a+", encoding="utf-8")
        _held.append(file)
        alone = _try_alone(file)
        if alone:
            file.seek(0)
            seen = set(file.read().split())
            with jobs.open("a", encoding="utf-8") as f:
                if _wait_alone(f) and seen <= {platform.node()}:
                    for lock in (workflow.parent / "locks").glob("*.lock"):
                        lock.unlink()
                    file.truncate(0)
        print(platform.node(), file=file, flush=True)
        # From alone to shared: there is a moment between, in which this process has no locks yet.
        fcntl.flock(file, fcntl.LOCK_SH)
    except OSError:
        return False
    return alone


@contextmanager
def job() -> Iterator[None]:
    """Around a job: held against the next workflow, and stopped (SIGTERM) if its own is killed."""
    with suppress(OSError):
        file = Path(_JOBS).open("a", encoding="utf-8")  # noqa: SIM115 - held to the end
        _held.append(file)
        fcntl.flock(file, fcntl.LOCK_SH)
    place, _, main = os.environ.get(_MAIN, "").rpartition(":")
    if main and _is_ours(place, int(main)):
        threading.Thread(target=_watch, args=(int(main),), daemon=True).start()
    yield


def _try_alone(file: TextIO) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _wait_alone(file: TextIO) -> bool:
    began, said = time.monotonic(), False
    while not _try_alone(file):
        if not said:
            print("Waiting for a job to end whose workflow was killed.", file=sys.stderr)
            said = True
        if time.monotonic() - began > _PATIENCE:
            return False
        time.sleep(0.1)
    return True


def _watch(pid: int) -> None:
    while is_alive(pid):
        time.sleep(_SECONDS_BETWEEN_LOOKS)
    os.kill(os.getpid(), signal.SIGTERM)


def _place() -> str:
    """The machine, what numbers its processes, and this process's session there.

    A session that began outside of a container has the number 0 inside, so that the numbers alone
    say nothing: two containers' sessions 0 are not the same.
    """
    numbers = ""
    with suppress(OSError):  # no Linux
        numbers = str(Path("/proc/self/ns/pid").readlink())
    return f"{platform.node()}:{numbers}:{os.getsid(0)}"


def _is_ours(place: str, main: int) -> bool:
    """Whether this job ends with that workflow, which may be dead by now.

    Not in a container that numbers its processes itself, nor on a cluster, whose jobs live on: there
    it is in another session.
    """
    here = _place()
    same_numbers = place.rpartition(":")[0] == here.rpartition(":")[0]
    return same_numbers and (place == here or _is_above(main))


def _is_above(pid: int) -> bool:
    """Whether that process started this one, at whatever remove."""
    at = os.getpid()
    try:
        while at > 1 and at != pid:
            stat = Path(f"/proc/{at}/stat").read_text(encoding="utf-8", errors="replace")
            at = int(stat.rpartition(")")[2].split()[1])
    except (OSError, ValueError):  # no Linux
        return False
    return at == pid
