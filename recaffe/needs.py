"""What a job asks of a cluster: memory, minutes and threads, from the number of pictures and the attempt.

Generous, since asking for too little costs a whole attempt and for too much a little waiting. On one
machine, where nothing is asked for, none of it counts but the threads.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

# Growth stops there: an attempt may also follow on a time limit, and no node has memory without end.
_MOST = 3.0
# Partitions of clusters seldom allow more than a day, and a training goes on where it was stopped.
DAY = 1440


def pictures(inventory: Path) -> int:
    """How many pictures there are; 0 where the inventory isn't written yet."""
    try:
        about = inventory.stat()
    except OSError:
        return 0
    return _rows(inventory, about.st_size, about.st_mtime_ns)


def growth(attempt: int) -> float:
    """The factor of a job's memory: 1, then half more for each attempt, up to three times."""
    return min(1 + (attempt - 1) / 2, _MOST)


def memory(megabytes: float, attempt: int, count: int = 0, kilobytes: float = 0) -> int:
    """Megabytes of an attempt: a base, and so many kilobytes a picture."""
    return round((megabytes + count * kilobytes / 1000) * growth(attempt))


def training(batch_size: int, attempt: int = 1) -> int:
    """Megabytes of a training: its libraries and weights, and what it holds of each picture of a batch."""
    return memory(4000, attempt, batch_size, 30000)


def minutes(base: float, attempt: int, count: float = 0, seconds: float = 0) -> int:
    """Minutes of an attempt, at most a day: a base, and so many seconds a picture."""
    return min(DAY, round((base + count * seconds / 60) * attempt))


def threads(count: int, most: int = 8) -> int:
    """One for every 250 pictures, from two to `most`: processes cost a second to start."""
    return max(2, min(most, count // 250))


@cache
def _rows(table: Path, size: int, changed: int) -> int:
    """Lines below the first of a table, as it was with that size at that time."""
    with table.open("rb") as f:
        lines = sum(block.count(b"\n") for block in iter(lambda: f.read(1 << 20), b""))
    return max(0, lines - 1)
