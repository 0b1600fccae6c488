"""List of pictures → LMDB of Datum records: BGR, C×H×W, uint8, keys `hash8_path`."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator, Sequence
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
from recaffe.lmdb.entries import Entries, Entry, read_list
from recaffe.lmdb.read import count as count_records
from recaffe.lmdb.read import first_shape
from recaffe.pool import ordered_map, worker_pool
from recaffe.progress import progress
from recaffe.proto import caffe_pb2 as pb

BYTES_A_COMMIT = 1 << 25  # LMDB keeps the records of a transaction in memory
_BYTES_A_CHUNK = 1 << 20  # of the records that a worker makes at a time; dozens of chunks may wait
_PAGE = 4096


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
    try:
        return serialised(picture, entry.label, lmdb_settings)
    except DataError as error:
        raise DataError(f"{path}: {error}; then run the same command again.") from error


def serialised(picture: Picture, label: int, settings: dict[str, Any]) -> bytes:
    """What `picture_of` gave → the Datum, as `settings` (the config's `lmdb`) want it."""
    return _serialised(record_pixels(picture, settings), label, settings)


def _serialised(image: np.ndarray, label: int, settings: dict[str, Any]) -> bytes:
    datum = pb.Datum(label=label)
    if settings["encoded"] == "none":
        chw = image[None]
        if image.ndim == 3:
            chw = np.empty((image.shape[2], *image.shape[:2]), image.dtype)
            cv2.split(image, list(chw))  # in place, and three times as fast as NumPy's transpose
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
) -> int:
    """`build` from a list. Returns the number of records."""
    entries = read_list(list_file, seed)
    build(entries, root, out, settings, threads)
    return len(entries)


def build(entries: Entries, root: str, out: Path, settings: dict[str, Any], threads: int) -> None:
    """Build the LMDB folder `out` of entries in key order: aside, check it, rename it.

    `settings` is the whole config (`lmdb` and `scan` are used).
    Raises `DataError` for a picture that can't be decoded, `MachineError` when the disk is full.
    """
    shape, scan_settings = settings["lmdb"], settings["scan"]
    record = record_size(shape)
    size = len(entries) * record + 64 * _PAGE
    _check_space(out, size if shape["encoded"] == "none" else size // 8)
    work = partial(to_datum, root=root, lmdb_settings=shape, scan_settings=scan_settings)
    with write_aside(out) as aside, worker_pool(workers(threads, entries)) as pool:
        aside.mkdir()
        made = ordered_map(pool, work, entries, min(16, max(1, _BYTES_A_CHUNK // record)))
        datums = progress(made, len(entries), out.name, "img")
        _fill(aside, size * 2, entries, datums, out)
        _verify(aside, len(entries), shape)


def workers(threads: int, entries: Entries) -> int:
    """Processes worth having: what need not be decoded is read sooner than handed from one to another."""
    return min(threads, entries.to_decode())


def _fill(
    aside: Path, map_size: int, entries: Sequence[Entry], datums: Iterator[bytes], out: Path
) -> None:
    try:
        with lmdb.open(
            str(aside), map_size=map_size, sync=False, metasync=False, lock=False
        ) as env:
            pairs = zip(entries, datums, strict=True)
            more = True
            while more:
                room = BYTES_A_COMMIT
                with env.begin(write=True) as txn:
                    for entry, datum in pairs:
                        # Entries come in key order, so records go to the end of the tree.
                        if not txn.put(entry.key.encode(), datum, append=True, overwrite=False):
                            raise DataError(f"{entry.path} stands twice in the list of {out}.")
                        room -= len(datum)
                        if room <= 0:
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


def _verify(aside: Path, count: int, settings: dict[str, Any]) -> None:
    found = count_records(aside)
    if found != count:
        raise DataError(f"The LMDB has {found} records, the list {count} lines.")
    if not count:
        return  # a shard may be empty
    wanted = (1 if settings["gray"] else 3, settings["height"], settings["width"])
    shape = first_shape(aside)
    if shape != wanted:
        raise DataError(f"The LMDB's first record is {shape}, not {wanted}.")
