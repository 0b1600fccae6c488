"""SHA-256 of many files, remembered by path, size and modification time."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import chain, islice
from pathlib import Path

from recaffe.files import rewrite, sha256
from recaffe.tables import csv_blocks

# Size in bytes, modification time in ns, hex digest.
_Entry = tuple[int, int, str]
_BATCH = 1024  # files that are held at a time
_CHUNK = 16  # files that a thread gets at a time: to hand out each small one takes longer than to read it


def take(
    files: Iterable[str], cache: Path, *, deep: bool = False, keep: bool = True
) -> Iterator[tuple[int, str]]:
    """Size in bytes and digest of each file, in order; -1 and "" for one that can't be read.

    Only what isn't in `cache` with its size and time is read; with `deep`, everything is. `cache`
    is brought up to date with the last of them, unless `keep` is off; it is safe to delete.
    """
    known = _Known(iter(()) if deep else _read(cache))
    files, here = iter(files), str(Path.cwd())
    with (
        ThreadPoolExecutor(max_workers=min(8, os.cpu_count() or 1)) as pool,
        rewrite(cache, keep=keep) as table,
    ):
        while batch := list(islice(files, _BATCH)):
            # What `os.path.abspath` does, but for asking where this is each time.
            paths = [os.path.normpath(f if f[:1] == "/" else f"{here}/{f}") for f in batch]
            entries, wanted = [], []
            for i, (file, path) in enumerate(zip(batch, paths, strict=True)):
                about, entry = _stat(file), known.take(path)
                if entry is None or entry[:2] != about:
                    wanted.append(i)
                    entry = (*about, "")
                entries.append(entry)
            some = (wanted[i : i + _CHUNK] for i in range(0, len(wanted), _CHUNK))
            found = pool.map(_digests, [[batch[i] for i in numbers] for numbers in some])
            for i, digest in zip(wanted, chain.from_iterable(found), strict=True):
                entries[i] = (*entries[i][:2], digest)
            for block in csv_blocks((p, *e) for p, e in zip(paths, entries, strict=True)):
                table.write(block)
            yield from ((size, digest) for size, _, digest in entries)


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


def _stat(file: str) -> tuple[int, int]:
    try:
        stat = os.stat(file)
    except (OSError, ValueError):
        return -1, 0
    return stat.st_size, stat.st_mtime_ns


def _digests(files: list[str]) -> list[str]:
    return [_digest(file) for file in files]


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
