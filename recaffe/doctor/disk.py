"""The disk that results are written to, and whether the config's pictures have room on it."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

from recaffe.doctor.result import About, Finding
from recaffe.errors import RecaffeError
from recaffe.files import explain_os_error, free_space, nearest

_LITTLE = 2e9  # bytes: snapshots, records and a report of a small set
_OTHER_DISK = "Put `results` on another disk (a local one)."


def check(about: About) -> Iterator[Finding]:
    """disk, file locks, hard links."""
    here = nearest(about.results)
    free = free_space(here)
    said = f"{free / 1e9:,.1f} GB free in {here}"
    try:
        with TemporaryDirectory(prefix=".recaffe-doctor-", dir=here) as folder:
            file = Path(folder, "a")
            file.write_bytes(b"x")
            if free < _LITTLE:
                todo = f"Free some space. {_OTHER_DISK}"
                yield Finding("disk", "problem", f"{said}, which is little", todo)
            else:
                yield Finding("disk", "ok", said)
            yield _locks(file)
            yield _links(file)
    except OSError as error:
        yield Finding("disk", "problem", str(explain_os_error(error, here)))


def pictures(about: About) -> Iterator[Finding]:
    """The config's pictures, listed as the workflow does, and what their records take."""
    from recaffe.images import inventory
    from recaffe.images.record import record_size

    images = about.config["images"]
    if images["package"] or not about.named:
        return
    try:
        items, labels = inventory.list_pictures(images)
    except RecaffeError as error:
        todo = "`recaffe init FOLDER` writes a config for a folder."
        yield Finding("pictures", "problem", str(error), todo)
        return
    shape = about.config["lmdb"]
    size = len(items) * record_size(shape) // (1 if shape["encoded"] == "none" else 8)
    count = about.config["split"]["folds"]  # each has records of its own
    size *= count or 1
    records = f"records of {count} folds" if count else "records"
    free = free_space(about.results)
    said = (
        f"{len(items):,} in {len(labels):,} classes; their {records} take about {size / 1e9:,.1f} GB of "
        f"{free / 1e9:,.1f} GB free"
    )
    if size > free:
        yield Finding("pictures", "problem", said, f"Set lmdb.encoded: jpg. {_OTHER_DISK}")
    else:
        yield Finding("pictures", "ok", said)


def _locks(file: Path) -> Finding:
    try:
        with file.open("r+b") as f:
            fcntl.flock(f, fcntl.LOCK_EX | fcntl.LOCK_NB)
            fcntl.flock(f, fcntl.LOCK_UN)
            fcntl.lockf(f, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        said = (
            f"don't work here ({error.strerror}): two workflows in a folder wouldn't see each other"
        )
        return Finding("file locks", "problem", said, f"Start one at a time. {_OTHER_DISK}")
    return Finding("file locks", "ok", "two workflows in one folder see each other")


def _links(file: Path) -> Finding:
    try:
        os.link(file, file.with_name("b"))
    except OSError as error:
        said = f"don't work here ({error.strerror}): symbolic links and copies serve instead"
        return Finding("hard links", "missing", said)
    return Finding("hard links", "ok", "an LMDB and its result share their bytes")
