"""SHA-256 of many files, remembered by path, size and modification time."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from recaffe.files import sha256, write_aside

# Size in bytes, modification time in ns, hex digest.
_Entry = tuple[int, int, str]


def take(
    files: Sequence[str], cache: Path, *, deep: bool = False, keep: bool = True
) -> list[tuple[int, str]]:
    """Size in bytes and digest of each file; -1 and "" for one that can't be read.

    Only what isn't in `cache` with its size and time is read; with `deep`, everything is. `cache`
    is brought up to date unless `keep` is off; it is safe to delete.
    """
    known = _Known(iter(()) if deep else _read(cache))
    entries: list[_Entry] = []
    wanted = []
    for i, file in enumerate(files):
        size, mtime = _stat(file)
        entry = known.take(os.path.abspath(file))
        if entry is None or entry[:2] != (size, mtime):
            wanted.append(i)
            entry = (size, mtime, "")
        entries.append(entry)
    if wanted:
        with ThreadPoolExecutor(max_workers=min(8, os.cpu_count() or 1)) as pool:
            found = pool.map(lambda i: _digest(files[i]), wanted)
            for i, digest in zip(wanted, found, strict=True):
                entries[i] = (*entries[i][:2], digest)
    if keep and (wanted or known.rest()):
        _write(cache, files, entries)
    return [(size, digest) for size, _, digest in entries]


class _Known:
    """What a cache says of each path. It is read as far as it is asked: where nothing was added it
    has the files' own order, and none of it is held.
    """

    def __init__(self, rows: Iterator[tuple[str, _Entry]]) -> None:
        self._rows = rows
        self._passed: dict[str, _Entry] = {}

    def take(self, path: str) -> _Entry | None:
        """The entry of a path, once."""
        if path in self._passed:
            return self._passed.pop(path)
        for other, entry in self._rows:
            if other == path:
                return entry
            self._passed[other] = entry
        return None

    def rest(self) -> bool:
        """Whether entries are left that nobody took."""
        return bool(self._passed) or next(self._rows, None) is not None


def _stat(file: str) -> tuple[int, int]:
    try:
        stat = os.stat(file)
    except (OSError, ValueError):
        return -1, 0
    return stat.st_size, stat.st_mtime_ns


def _digest(file: str) -> str:
    try:
        return sha256(file) if os.path.isfile(file) else ""  # noqa: PTH113 - str in, as everywhere here
    except (OSError, ValueError):
        return ""


def _read(cache: Path) -> Iterator[tuple[str, _Entry]]:
    try:
        with cache.open(encoding="utf-8", newline="", errors="surrogateescape") as f:
            for path, size, mtime, digest in csv.reader(f):
                yield path, (int(size), int(mtime), digest)
    except (OSError, ValueError):
        return


def _write(cache: Path, files: Sequence[str], entries: Sequence[_Entry]) -> None:
    with (
        write_aside(cache) as aside,
        aside.open("w", encoding="utf-8", newline="", errors="surrogateescape") as f,
    ):
        writer = csv.writer(f, lineterminator="\n")
        for file, entry in zip(files, entries, strict=True):
            writer.writerow((os.path.abspath(file), *entry))
