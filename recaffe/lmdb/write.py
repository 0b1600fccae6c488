"""List of pictures → LMDB of Datum records: BGR, C×H×W, uint8, keys `hash8_path`."""

from __future__ import annotations

import hashlib
import shutil
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import lmdb
import numpy as np

from recaffe.errors import DataError, MachineError
from recaffe.files import file_too_large, write_aside
from recaffe.images import decoded
from recaffe.images.decode import Picture, RejectError, read
from recaffe.images.record import picture_of, record_pixels, record_size
from recaffe.images.split import record_key, shard_of
from recaffe.lmdb.read import count as count_records
from recaffe.lmdb.read import first_shape
from recaffe.pool import ordered_map, worker_pool
from recaffe.progress import progress
from recaffe.proto import caffe_pb2 as pb

RECORDS_A_COMMIT = 1000  # as convert_imageset
_PAGE = 4096


@dataclass(frozen=True)
class Entry:
    """One list line with the key of its record, and the SHA-256 of its file where that is known.

    `place` is where the scan has left the record's image, if it has.
    """

    key: str
    path: str
    label: int
    picture: str = ""
    place: decoded.Place | None = None


def read_list(path: Path | str, seed: int, shard: tuple[int, int] = (0, 1)) -> list[Entry]:
    """A list file that recaffe wrote, with its keys, in key order.

    `shard` (index, number of shards) takes only the records of that shard.
    """
    index, shards = shard
    seen: Counter[str] = Counter()
    entries = []
    try:
        lines = Path(path).read_text(encoding="utf-8").split("\n")
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8 ({error}). Remove it and run again.") from error
    for number, line in enumerate(lines, 1):
        if not line:
            continue
        name, _, label = line.rpartition(" ")
        if not name or not (label.isascii() and label.isdigit() and len(label) < 10):
            raise DataError(f"{path}, line {number}: {line!r} is not `path label`.")
        entries.append(Entry(record_key(name, seed, seen[name]), name, int(label)))
        seen[name] += 1
    if shards > 1:
        entries = [e for e in entries if shard_of(e.key, shards) == index]
    return sorted(entries, key=lambda e: e.key)


def with_digests(
    entries: list[Entry],
    root: str,
    pictures: Mapping[str, str],
    places: Mapping[str, decoded.Place] | None = None,
) -> list[Entry]:
    """The entries with the SHA-256 of their files, which `pictures` gives by path, root included.

    And with the place of their images, which `places` gives by that digest.
    """
    where = places or {}
    try:
        shas = [pictures[str(Path(root) / e.path)] for e in entries]
        return [
            replace(e, picture=sha, place=where.get(sha))
            for e, sha in zip(entries, shas, strict=True)
        ]
    except KeyError as error:
        raise DataError(
            f"{error.args[0]} stands in a list but not in the manifest. Remove manifest.csv and run "
            "the same command again."
        ) from error


def to_datum(
    entry: Entry, root: str, lmdb_settings: dict[str, Any], scan_settings: dict[str, Any]
) -> bytes:
    """The serialised Datum of one picture; raises `DataError` if it isn't what was scanned."""
    if entry.place is not None:
        image = decoded.image(entry.place, lmdb_settings)
        if image is not None:
            return _serialised(image, entry.label, lmdb_settings)
    path = Path(root) / entry.path
    try:
        data = read(path)
        if entry.picture and hashlib.sha256(data).hexdigest() != entry.picture:
            raise DataError(f"{path} changed since it was scanned. Run the same command again.")
        picture = picture_of(data, scan_settings, lmdb_settings)
    except RejectError as error:
        raise DataError(
            f"{path} was fine when it was scanned, and now: {error}. Run the same command again."
        ) from error
    return serialised(picture, entry.label, lmdb_settings)


def serialised(picture: Picture, label: int, settings: dict[str, Any]) -> bytes:
    """What `picture_of` gave → the Datum, as `settings` (the config's `lmdb`) want it."""
    return _serialised(record_pixels(picture, settings), label, settings)


def _serialised(image: np.ndarray, label: int, settings: dict[str, Any]) -> bytes:
    datum = pb.Datum(label=label)
    if settings["encoded"] == "none":
        chw = image[None] if image.ndim == 2 else image.transpose(2, 0, 1)
        datum.channels, datum.height, datum.width = chw.shape
        datum.data = chw.tobytes()
    else:
        ok, code = cv2.imencode("." + settings["encoded"], image)
        assert ok
        datum.data = code.tobytes()
        datum.encoded = True
    return datum.SerializeToString(deterministic=True)


def write(
    list_file: Path,
    root: str,
    out: Path,
    settings: dict[str, Any],
    seed: int,
    threads: int,
    pictures: Mapping[str, str] | None = None,
    shard: tuple[int, int] = (0, 1),
    places: Mapping[str, decoded.Place] | None = None,
) -> int:
    """Build the LMDB folder `out` aside, check it, rename it. Returns the number of records.

    `settings` is the whole config (`lmdb` and `scan` are used), `pictures` and `places` as
    in `with_digests`, `shard` as in `read_list`.
    Raises `DataError` for a picture that can't be decoded, `MachineError` when the disk is full.
    """
    shape, scan_settings = settings["lmdb"], settings["scan"]
    entries = read_list(list_file, seed, shard)
    if pictures is not None:
        entries = with_digests(entries, root, pictures, places)
    size = len(entries) * record_size(shape) + 64 * _PAGE
    _check_space(out, size if shape["encoded"] == "none" else size // 8)
    work = partial(to_datum, root=root, lmdb_settings=shape, scan_settings=scan_settings)
    with write_aside(out) as aside, worker_pool(workers(threads, entries)) as pool:
        aside.mkdir()
        datums = progress(ordered_map(pool, work, entries), len(entries), out.name, "img")
        _fill(aside, size * 2, entries, datums, out)
        _verify(aside, entries, shape)
    return len(entries)


def workers(threads: int, entries: list[Entry]) -> int:
    """Processes worth having: what need not be decoded is read sooner than handed from one to another."""
    return min(threads, sum(e.place is None for e in entries))


def _fill(
    aside: Path, map_size: int, entries: list[Entry], datums: Iterator[bytes], out: Path
) -> None:
    try:
        with lmdb.open(
            str(aside), map_size=map_size, sync=False, metasync=False, lock=False
        ) as env:
            pairs = zip(entries, datums, strict=True)
            more = True
            while more:
                with env.begin(write=True) as txn:
                    for n, (entry, datum) in enumerate(pairs, 1):
                        # Entries come in key order, so records go to the end of the tree.
                        if not txn.put(entry.key.encode(), datum, append=True, overwrite=False):
                            raise DataError(f"{entry.path} stands twice in the list of {out}.")
                        if n == RECORDS_A_COMMIT:
                            break
                    else:
                        more = False
            env.sync(True)
    except lmdb.Error as error:
        raise cant_write(out, error) from error


def _check_space(out: Path, need: int) -> None:
    folder = out.parent
    folder.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(folder).free
    if free < need:
        raise MachineError(
            f"{out} needs about {need / 2**20:.0f} MiB, but {folder} has {free / 2**20:.0f} MiB "
            "free. Free some space, put `results` on a larger disk, or set lmdb.encoded to jpg; "
            "then run the same command again."
        )


def cant_write(out: Path, error: lmdb.Error) -> DataError | MachineError:
    """LMDB's error in writing as a message."""
    if "File too large" in str(error):
        return file_too_large(out)
    # LMDB reports a write that the disk cut short as an input/output error.
    if not any(x in str(error) for x in ("No space", "Input/output")):
        return DataError(f"{out} can't be written: {error}")
    return MachineError(
        f"No space left (or a failing disk) while writing {out}. Free some space or put `results` on "
        "a larger disk, then run the same command again; finished steps are kept."
    )


def _verify(aside: Path, entries: list[Entry], settings: dict[str, Any]) -> None:
    found = count_records(aside)
    if found != len(entries):
        raise DataError(f"The LMDB has {found} records, the list {len(entries)} lines.")
    if not entries:
        return  # a shard may be empty
    wanted = (1 if settings["gray"] else 3, settings["height"], settings["width"])
    shape = first_shape(aside)
    if shape != wanted:
        raise DataError(f"The LMDB's first record is {shape}, not {wanted}.")
