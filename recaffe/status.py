"""A job's status file: how far it is, for whoever shows the whole workflow.

It stands beside the job's log, so that it needs nothing but the file system that a job shares with its
workflow: from a child process, a container, or another node of a cluster. Nothing depends on it: what
can't be written or read is left out.
"""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

# Names the file in a job, and in the processes that it starts.
FILE = "RECAFFE_STATUS"
# What a job's lines on its caller's terminal leave out: "progress", or "all" but errors.
QUIET = "RECAFFE_QUIET"
# Set in jobs whose workflow has a view.
WATCHED = "RECAFFE_WATCHED"
_SECONDS_BETWEEN_WRITES = 1.0

Values = Callable[[], dict[str, Any]]

_latest: Values = dict
_written = -1e9
_timer: threading.Timer | None = None
_lock = threading.Lock()


def file_of(log: Path | str) -> Path:
    """The status file of the job with that log."""
    return Path(log).with_name(f".{Path(log).stem}.status.json")


def begin(log: Path | str) -> None:
    """A job starts: it has a status file from now on, which says nothing yet."""
    os.environ[FILE] = str(file_of(log).absolute())
    write(dict, at_once=True)


def end() -> None:
    """A job has ended: its file goes, if its workflow doesn't read it once more and removes it."""
    name = os.environ.pop(FILE, "")
    if name and WATCHED not in os.environ:
        remove(Path(name))


def remove(path: Path) -> None:
    """Remove a status file, if there is one that can be."""
    with suppress(OSError):
        path.unlink(missing_ok=True)


def is_wanted() -> bool:
    """Whether this process is, or belongs to, a workflow's job."""
    return FILE in os.environ


def lead_to(other: Path) -> None:
    """Let this job's status be the one that another process writes at `other`, which it sees, too."""
    with suppress(OSError, KeyError):
        name = Path(os.environ[FILE])
        name.unlink(missing_ok=True)
        name.symlink_to(other.absolute())


def write(values: Values, at_once: bool = False) -> None:
    """Replace the file's content by what that function gives: now, or before a second is over."""
    global _latest, _timer
    if FILE not in os.environ:
        return
    with _lock:
        _latest = values
        wait = 0.0 if at_once else _written + _SECONDS_BETWEEN_WRITES - time.monotonic()
        if wait <= 0:
            _replace()
        elif _timer is None:
            # Whoever says no more for a while has had the last word written.
            _timer = threading.Timer(wait, _later)
            _timer.daemon = True
            _timer.start()


def _later() -> None:
    global _timer
    with _lock:
        _timer = None
        _replace()


def _replace() -> None:
    global _written
    name = os.environ.get(FILE)
    if name is None:  # the job has ended
        return
    _written = time.monotonic()
    aside = f"{name}.{os.getpid()}"
    with suppress(OSError):
        try:
            Path(aside).write_text(json.dumps(_latest()), encoding="utf-8")
            os.replace(aside, name)
        except OSError:
            Path(aside).unlink(missing_ok=True)


def read(path: Path | str) -> dict[str, Any] | None:
    """What a job has said, or None if there is nothing that can be read."""
    try:
        values = json.loads(Path(path).read_bytes())
    except (OSError, ValueError):
        return None
    return values if isinstance(values, dict) else None
