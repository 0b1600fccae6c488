"""Images of records that the scan made of each picture while it had it decoded, until LMDBs hold them.

Decoding is most of the work on a picture, and without this it is done twice: by the scan, which must
see all pictures before any can be put into a split, and by the LMDBs. Each of the scan's processes
appends to a file of its own; the index says where each picture's image is, by the SHA-256 of its file.
Nothing depends on any of it: what isn't there, is of other settings, or is damaged, is decoded again.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import xxhash

from recaffe import stages
from recaffe.errors import DataError
from recaffe.files import free_space, write_bytes
from recaffe.images.decode import VERSIONS, Picture
from recaffe.images.record import record_pixels, record_size, seen_with, shape

FOLDER, INDEX = ".decoded", "index.txt"
_PIXELS = ("width", "height", "mode", "gray")  # of the config's `lmdb`
_MOST = 32 * 2**30  # bytes; a larger set is decoded twice rather than stored twice
_SPARE = 4  # times what is kept must be free: for it, for the LMDBs, and room to work

# Of this process: the file that it appends to, by folder (None once that has failed), and those that it reads.
_appended: dict[Path, tuple[int, str] | None] = {}
_read: dict[str, int] = {}


class Place(NamedTuple):
    """Where an image's bytes are, and their XXH3 of 64 bits."""

    file: str
    offset: int
    check: int


def recipe(settings: Mapping[str, Any]) -> dict[str, Any]:
    """All that an image follows from, besides its picture. `settings` has `lmdb` and `scan` of the config."""
    return {
        "stages": [stages.SCAN, stages.LMDB],
        "lmdb": {key: settings["lmdb"][key] for key in _PIXELS} | seen_with(settings["lmdb"]),
        "background": settings["scan"]["background"],
        **VERSIONS,
    }


def begin(folder: Path, settings: Mapping[str, Any], pictures: int) -> bool:
    """Whether images of so many pictures more should be kept in the folder; what is of no use there goes."""
    if next(places(folder, settings), None) is None:
        discard(folder)
    size = pictures * record_size(dict(settings["lmdb"]))
    return 0 < size <= min(_MOST, free_space(folder) // _SPARE)


def keep(folder: Path, picture: Picture, lmdb_settings: dict[str, Any]) -> Place | None:
    """Append a picture's image to this process's file; None where that can't be done."""
    try:
        data = np.ascontiguousarray(record_pixels(picture, lmdb_settings)).data.cast("B")
    except DataError:  # a picture for no record: the LMDB's job names it, if it comes into one
        return None
    try:
        if folder not in _appended:
            folder.mkdir(parents=True, exist_ok=True)
            name = str(folder / f"{os.getpid()}-{time.time_ns()}.bin")
            _appended[folder] = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666), name
        if (mine := _appended[folder]) is None:
            return None
        fd, name = mine
        offset = os.lseek(fd, 0, os.SEEK_CUR)
        if os.write(fd, data) == len(data):
            return Place(name, offset, xxhash.xxh3_64_intdigest(data))
    except OSError:
        pass
    # The disk is full, most likely. Above all, there must be room for what has to be written.
    if mine := _appended.get(folder):
        with suppress(OSError):
            os.ftruncate(mine[0], 0)
        os.close(mine[0])
    _appended[folder] = None
    return None


def finish(folder: Path, settings: Mapping[str, Any], kept: Mapping[str, Place | None]) -> None:
    """Write the index of what was kept, besides what is there; of a disk that was full, nothing stays."""
    for mine in filter(None, _appended.values()):
        os.close(mine[0])
    _appended.clear()
    if not kept or None in kept.values():
        if kept:
            discard(folder)
        return
    found = {**{digest.hex(): p for digest, p in places(folder, settings)}, **kept}
    lines = [json.dumps({"recipe": recipe(settings)}, sort_keys=True)]
    lines += [f"{sha} {Path(p.file).name} {p.offset} {p.check}" for sha, p in found.items() if p]
    with suppress(OSError):
        write_bytes(folder / INDEX, ("\n".join(lines) + "\n").encode())


def places(folder: Path, settings: Mapping[str, Any]) -> Iterator[tuple[bytes, Place]]:
    """Where images are, each with the SHA-256 of the picture's file; none if they are of another recipe."""
    files: dict[str, str] = {}
    with suppress(OSError, ValueError), (folder / INDEX).open(encoding="utf-8") as lines:
        if json.loads(next(lines, "")) != {"recipe": recipe(settings)}:
            return
        for line in lines:
            sha, name, offset, check = line.split(" ")
            if name not in files:
                files[name] = str(folder / name)
            place = Place(files[name], int(offset), int(check))
            if not (0 <= place.offset < 1 << 63 and 0 <= place.check < 1 << 64):
                raise ValueError(line)
            yield bytes.fromhex(sha), place


def image(place: Place, lmdb_settings: dict[str, Any]) -> np.ndarray | None:
    """The image that was kept there, as `record_pixels` gave it; None if it isn't what it was."""
    wanted = shape(lmdb_settings)
    try:
        if place.file not in _read:
            _read[place.file] = os.open(place.file, os.O_RDONLY)
        data = os.pread(_read[place.file], int(np.prod(wanted)), place.offset)
    except OSError:
        return None
    if xxhash.xxh3_64_intdigest(data) != place.check:
        return None
    return np.frombuffer(data, np.uint8).reshape(wanted)


def discard(folder: Path) -> None:
    """Remove what was kept."""
    with suppress(OSError):
        shutil.rmtree(folder)


def discard_if_there(folder: Path, wanted: Iterable[Path | str]) -> None:
    """Remove what was kept once all of what it was kept for is there."""
    if folder.is_dir() and all(Path(path).exists() for path in wanted):
        discard(folder)
