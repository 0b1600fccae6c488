"""LMDB → mean.binaryproto, as compute_image_mean, with exact integer sums."""

from __future__ import annotations

import io
import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from recaffe.errors import DataError
from recaffe.files import write_bytes
from recaffe.lmdb.datum import parse_datum, pixels
from recaffe.lmdb.read import open_records
from recaffe.progress import progress
from recaffe.proto import caffe_pb2 as pb

_FEW = 0xFFFF // 0xFF  # records of 8 bits whose sum 16 bits hold


@dataclass(frozen=True)
class Sums:
    """Sum over `count` records, C×H×W: int64, or float64 of float records."""

    total: np.ndarray
    count: int


def sums(lmdb_path: Path | str) -> Sums | None:
    """The sum of an LMDB's records; None where it has none.

    Raises `DataError` if a record has another shape than the first.
    """
    total: np.ndarray | None = None
    with open_records(lmdb_path) as found:
        items = progress(found, len(found), "mean", "img")
        for number, (key, value) in enumerate(items, 1):
            record = pixels(parse_datum(value, f"{lmdb_path}: {bytes(key)!r}"))
            if total is None:
                is_float = record.dtype == np.float32
                # Integers: exact in any order, where Caffe's float32 sums drift.
                total = np.zeros(record.shape, np.float64 if is_float else np.int64)
                # Of few records, and so in few bits: eight times as fast as adding to 64.
                few = total if is_float else np.zeros(record.shape, np.uint16)
            if record.shape != total.shape or not np.can_cast(record.dtype, total.dtype):
                raise DataError(
                    f"{lmdb_path}: record {bytes(key)!r} is {record.dtype} {record.shape}, the first "
                    f"{'float32' if is_float else 'uint8'} {total.shape}. Remove the LMDB and run again."
                )
            few += record
            if few is not total and number % _FEW == 0:
                total += few
                few[:] = 0
        if total is None:
            return None
        return Sums(total if few is total else total + few, len(found))


def combine(parts: Iterable[Sums | None], source: Path | str) -> np.ndarray:
    """The mean record of all parts: float32, C×H×W, BGR. Raises `DataError` if there are no records."""
    there = [part for part in parts if part is not None]
    if not there:
        raise DataError(f"{source} has no records. Remove it and run again.")
    total = np.sum([part.total for part in there], axis=0)
    return (total / sum(part.count for part in there)).astype(np.float32)


def compute(lmdb_path: Path | str) -> np.ndarray:
    """The mean record of an LMDB: float32, C×H×W, BGR; raises `DataError` as `sums` and `combine`."""
    return combine([sums(lmdb_path)], lmdb_path)


def write_sums(part: Sums | None, path: Path | str) -> None:
    """Keep a part's sum for `combine`, as .npz."""
    part = part or Sums(np.zeros(0, np.int64), 0)
    with io.BytesIO() as data:
        np.savez(data, total=part.total, count=np.int64(part.count))
        write_bytes(path, data.getvalue())


def read_sums(path: Path | str) -> Sums | None:
    """What `write_sums` wrote."""
    with np.load(path, allow_pickle=False) as found:
        return Sums(found["total"], int(found["count"])) if found["count"] else None


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
