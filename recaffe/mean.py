"""LMDB → mean.binaryproto, as compute_image_mean, with exact integer sums."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np

from recaffe.errors import DataError
from recaffe.files import write_bytes
from recaffe.lmdb.read import open_lmdb, parse_datum, pixels
from recaffe.progress import progress
from recaffe.proto import caffe_pb2 as pb


def compute(lmdb_path: Path | str) -> np.ndarray:
    """The mean record: float32, C×H×W, BGR.

    Raises `DataError` if the LMDB is empty or a record has another shape than the first.
    """
    total: np.ndarray | None = None
    with open_lmdb(lmdb_path) as env, env.begin(buffers=False) as txn, txn.cursor() as cursor:
        n, records = 0, env.stat()["entries"]
        for key, value in progress(cursor, records, "mean", "img"):
            record = pixels(parse_datum(value, f"{lmdb_path}: {key!r}"))
            if total is None:
                # Integers: exact in any order, where Caffe's float32 sums drift.
                total = np.zeros(
                    record.shape, np.float64 if record.dtype == np.float32 else np.int64
                )
            if record.shape != total.shape:
                raise DataError(
                    f"{lmdb_path}: record {key!r} is {record.shape}, the first {total.shape}. "
                    "Remove the LMDB and run again."
                )
            total += record
            n += 1
    if total is None:
        raise DataError(f"{lmdb_path} has no records. Remove it and run again.")
    return (total / n).astype(np.float32)


def write(mean: np.ndarray, path: Path | str) -> None:
    """Write as Caffe does: a BlobProto in the legacy form, 1×C×H×W."""
    c, h, w = mean.shape
    blob = pb.BlobProto(num=1, channels=c, height=h, width=w)
    blob.data.extend(mean.ravel())
    write_bytes(path, blob.SerializeToString(deterministic=True))


def read(path: Path | str) -> np.ndarray:
    """A mean file as float32 C×H×W; raises `DataError` if it isn't one."""
    blob = pb.BlobProto()
    try:
        blob.ParseFromString(Path(path).read_bytes())
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}.") from error
    except Exception as error:
        raise DataError(f"{path} is not a mean file (binaryproto): {error}.") from error
    dims = list(blob.shape.dim) or [blob.num, blob.channels, blob.height, blob.width]
    dims = [d for d in dims[:-3] if d != 1] + dims[-3:]
    data = np.array(blob.data or blob.double_data, np.float32)
    if len(dims) != 3 or min(dims) < 1 or data.size != math.prod(dims):
        raise DataError(f"{path} is not a mean of one C×H×W picture (its shape says {dims}).")
    return data.reshape(dims)


def check_fits(mean: np.ndarray, record: tuple[int, int, int], path: Path | str) -> None:
    """Raises `DataError` unless the mean has the record's own C×H×W, as Caffe demands."""
    if mean.shape != record:
        raise DataError(
            f"{path} is {'×'.join(map(str, mean.shape))} but the records are "
            f"{'×'.join(map(str, record))}. A mean file belongs to the LMDB it was made from, before "
            "any crop: compute it anew, or use mean values."
        )
