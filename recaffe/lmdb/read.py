"""LMDB of Datum records, read without a lock file so that read-only mounts work."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import lmdb

from recaffe import real_caffe
from recaffe.errors import DataError
from recaffe.lmdb.datum import parse_datum, pixels

# An environment must not be opened twice in a process: (device, inode) → it and its users.
_open: dict[tuple[int, int], tuple[lmdb.Environment, int]] = {}
_lock = threading.Lock()


@contextmanager
def open_lmdb(path: Path | str) -> Iterator[lmdb.Environment]:
    """A read-only environment, shared by all who have it open; raises `DataError` if there is none."""
    key = _identity(path)
    with _lock:
        env, users = _open.get(key) or (_environment(path), 0)
        _open[key] = env, users + 1
    try:
        yield env
    finally:
        with _lock:
            env, users = _open.pop(key)
            if users > 1:
                _open[key] = env, users - 1
            else:
                env.close()


def _identity(path: Path | str) -> tuple[int, int]:
    try:
        found = (Path(path) / "data.mdb").stat()
    except OSError as error:
        if (Path(path) / "CURRENT").exists():
            raise DataError(
                f"{path} is a LevelDB. The torch engine reads LMDB: write it anew with "
                f"convert_imageset -backend lmdb. {real_caffe.can('read it as it is')}"
            ) from error
        raise DataError(f"{path} is no LMDB: {error.filename}: {error.strerror}.") from error
    return found.st_dev, found.st_ino


def _environment(path: Path | str) -> lmdb.Environment:
    try:
        # Without a lock file, so that read-only mounts and network disks work: nobody writes to an
        # LMDB that has its final name.
        env = lmdb.open(str(path), readonly=True, lock=False)
        whole = (env.info()["last_pgno"] + 1) * env.stat()["psize"]
    except lmdb.Error as error:
        raise DataError(
            f"{path} can't be opened as an LMDB: {error}. Remove it and run again."
        ) from error
    size = (Path(path) / "data.mdb").stat().st_size
    if size < whole:  # reading beyond the end of a mapped file would kill the process
        env.close()
        raise DataError(f"{path} is cut short: {size} of {whole} bytes. Remove it and run again.")
    return env


def count(path: Path | str) -> int:
    """Number of records."""
    with open_lmdb(path) as env:
        return int(env.stat()["entries"])


def keys(path: Path | str) -> list[str]:
    """All keys in order."""
    with open_lmdb(path) as env, env.begin() as txn, txn.cursor() as cursor:
        return [bytes(key).decode("utf-8", "replace") for key in cursor.iternext(values=False)]


def first_shape(path: Path | str) -> tuple[int, int, int]:
    """C, H, W of the first record, which Caffe takes for all."""
    with open_lmdb(path) as env, env.begin() as txn, txn.cursor() as cursor:
        if not cursor.first():
            raise DataError(f"{path} has no records. Remove it and run again.")
        c, h, w = pixels(parse_datum(cursor.value(), str(path))).shape
        return int(c), int(h), int(w)


def describe(path: Path | str) -> dict[str, Any]:
    """`records`, `shape` (C, H, W), and the SHA-256 of all keys and values in order."""
    digest, records = hashlib.sha256(), 0
    with open_lmdb(path) as env, env.begin(buffers=True) as txn, txn.cursor() as cursor:
        for key, value in cursor:
            digest.update(len(key).to_bytes(4, "little") + len(value).to_bytes(8, "little"))
            digest.update(key)
            digest.update(value)
            records += 1
    return {"records": records, "shape": list(first_shape(path)), "sha256": digest.hexdigest()}
