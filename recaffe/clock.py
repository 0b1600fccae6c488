"""Files from the future, which a clock that was set back leaves behind."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from pathlib import Path

from recaffe.errors import MachineError

_TOLERANCE = 2.0  # seconds by which a file server's clock may differ


def settle(folders: Iterable[Path | str]) -> str:
    """Put the dates of all files in `folders` back by as much as the newest is ahead of the clock.

    Snakemake compares dates: what is made after a clock was set back would look older than what
    was made from its predecessor. Moving all dates alike keeps their order. Returns a line that says
    so, or "" where there was nothing to do. Raises `MachineError` if a date can't be changed.
    """
    files = [
        (entry, os.lstat(entry))
        for folder in folders
        for here, _, names in os.walk(folder)
        for entry in (os.path.join(here, name) for name in names)  # noqa: PTH118 - many files
    ]
    now = time.time()
    ahead = max((stat.st_mtime for _, stat in files), default=now) - now
    if ahead <= _TOLERANCE:
        return ""
    back = int(ahead * 1e9) + 1
    for entry, stat in files:
        try:
            os.utime(entry, ns=(stat.st_atime_ns, stat.st_mtime_ns - back), follow_symlinks=False)
        except OSError as error:
            raise MachineError(
                f"The clock was set back by {ahead:.0f} s since results were written, and the date of "
                f"{entry} can't be put back ({error.strerror}). Make it writable, or set the clock."
            ) from error
    return (
        f"The clock was set back by {ahead:.0f} s since files were written in "
        f"{', '.join(map(str, folders))}: their dates are put back as much."
    )
