"""SHA-256 of many files, remembered by path, size and modification time."""

from __future__ import annotations

import csv
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from recaffe.files import sha256, write_aside

# Path → size in bytes, modification time in ns, hex digest.
_Known = dict[str, tuple[int, int, str]]


def take(
    files: Sequence[str], cache: Path, *, deep: bool = False, keep: bool = True
) -> list[tuple[int, str]]:
    """Size in bytes and digest of each file; -1 and "" for one that can't be read.

    Only what isn't in `cache` with its size and time is read; with `deep`, everything is. `cache`
    is brought up to date unless `keep` is off; it is safe to delete.
    """
    known = {} if deep else _read(cache)
    stats = [_stat(file) for file in files]
    keys = [os.path.abspath(file) for file in files]
    digests: dict[int, str] = {}
    wanted = []
    for i, key in enumerate(keys):
        if key in known and known[key][:2] == stats[i]:
            digests[i] = known[key][2]
        else:
            wanted.append(i)
    if wanted:
        with ThreadPoolExecutor(max_workers=min(8, os.cpu_count() or 1)) as pool:
            found = pool.map(lambda i: _digest(files[i]), wanted)
            digests.update(zip(wanted, found, strict=True))
    if keep and (wanted or len(known) != len(files)):
        _write(cache, {key: (*stats[i], digests[i]) for i, key in enumerate(keys)})
    return [(stats[i][0], digests[i]) for i in range(len(files))]


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


def _read(cache: Path) -> _Known:
    try:
        with cache.open(encoding="utf-8", newline="", errors="surrogateescape") as f:
            return {k: (int(size), int(mtime), digest) for k, size, mtime, digest in csv.reader(f)}
    except (OSError, ValueError):
        return {}


def _write(cache: Path, known: _Known) -> None:
    with (
        write_aside(cache) as aside,
        aside.open("w", encoding="utf-8", newline="", errors="surrogateescape") as f,
    ):
        writer = csv.writer(f, lineterminator="\n")
        writer.writerows((key, *values) for key, values in known.items())
