"""LMDB of Datum records, read without a lock file so that read-only mounts work."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import lmdb
import numpy as np

from recaffe.errors import DataError
from recaffe.proto import caffe_pb2 as pb


@contextmanager
def open_lmdb(path: Path | str) -> Iterator[lmdb.Environment]:
    """A read-only environment; raises `DataError` if there is none."""
    try:
        env = lmdb.open(str(path), readonly=True, lock=False, readahead=False, max_readers=1)
    except lmdb.Error as error:
        raise DataError(
            f"{path} can't be opened as an LMDB: {error}. Remove it and run again."
        ) from error
    try:
        yield env
    finally:
        env.close()


def count(path: Path | str) -> int:
    """Number of records."""
    with open_lmdb(path) as env:
        return int(env.stat()["entries"])


def keys(path: Path | str) -> list[str]:
    """All keys in order."""
    with open_lmdb(path) as env, env.begin() as txn, txn.cursor() as cursor:
        return [bytes(key).decode("utf-8", "replace") for key in cursor.iternext(values=False)]


def parse_datum(value: bytes, where: str = "record") -> pb.Datum:
    """One Datum; raises `DataError` if the bytes are none."""
    datum = pb.Datum()
    try:
        datum.ParseFromString(value)
    except Exception as error:
        raise DataError(
            f"{where} is not a Datum: {error}. Remove the LMDB and run again."
        ) from error
    return datum


def pixels(datum: pb.Datum) -> np.ndarray:
    """The record's pixels: uint8 (float32 for float_data), C×H×W, BGR.

    Raises `DataError` if the data's length doesn't fit the shape, or an encoded picture is broken.
    """
    if datum.encoded:
        import cv2

        image = cv2.imdecode(np.frombuffer(datum.data, np.uint8), cv2.IMREAD_UNCHANGED)
        if image is None:
            raise DataError("An encoded record can't be decoded. Remove the LMDB and run again.")
        return image[None] if image.ndim == 2 else image.transpose(2, 0, 1)
    shape = (datum.channels, datum.height, datum.width)
    flat = (
        np.frombuffer(datum.data, np.uint8)
        if datum.data
        else np.array(datum.float_data, np.float32)
    )
    if flat.size != np.prod(shape):
        raise DataError(
            f"A record has {flat.size} values but says {shape[0]}×{shape[1]}×{shape[2]}. "
            "Remove the LMDB and run again."
        )
    return flat.reshape(shape)


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
