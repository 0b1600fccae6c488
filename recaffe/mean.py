"""LMDB → mean.binaryproto, as compute_image_mean, with exact integer sums."""

from __future__ import annotations

import io
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from recaffe.errors import DataError
from recaffe.files import write_bytes
from recaffe.lmdb.datum import parse_datum, pixels
from recaffe.lmdb.read import open_records
from recaffe.progress import progress
from recaffe.proto import caffe_pb2 as pb
from recaffe.threads import ShareOut, in_batches, shared_out

_FEW = 0xFFFF // 0xFF  # records of 8 bits whose sum 16 bits hold
Item = tuple[bytes | memoryview, bytes | memoryview]  # a record's key and value


@dataclass(frozen=True)
class Sums:
    """Sum over `count` records, C×H×W: int64, or float64 of float records."""

    total: np.ndarray
    count: int


class Adder:
    """A sum that grows by batches of an LMDB's records, and shrinks by records that it loses.

    Raises `DataError` if a record has another shape than the first.
    """

    def __init__(self, lmdb_path: Path | str, start: Sums | None = None) -> None:
        self._path = lmdb_path
        self._total: np.ndarray | None = start.total.copy() if start else None
        self._count = start.count if start else 0

    def add(self, batch: Sequence[Item], share_out: ShareOut) -> None:
        """Add at most as many records as `threads.in_batches` gives, shared out among threads."""
        total = self._total = self._begun(batch[0]) if self._total is None else self._total
        few = partial(_sum_of_few, self._path, total)
        # Sums of floats depend on their order, which the number of threads must not decide.
        for part in [few(batch)] if total.dtype == np.float64 else share_out(few, batch):
            total += part
        self._count += len(batch)

    def change(
        self, key: str, new: bytes | None = None, old: bytes | memoryview | None = None
    ) -> None:
        """Add a record, take away the one that it replaces, or both. Exact only of 8-bit records."""
        name = key.encode()
        if new is not None:
            if self._total is None:
                self._total = self._begun((name, new))
            self._total += _record(self._path, name, new)
            self._count += 1
        if old is not None:
            assert self._total is not None
            self._total -= _record(self._path, name, old)
            self._count -= 1

    def _begun(self, first: Item) -> np.ndarray:
        record = _record(self._path, *first)
        # Integers: exact in any order, where Caffe's float32 sums drift.
        return np.zeros(record.shape, np.float64 if record.dtype == np.float32 else np.int64)

    def sums(self) -> Sums | None:
        """The sum so far; None where there are no records."""
        return Sums(self._total, self._count) if self._total is not None and self._count else None


def sums(lmdb_path: Path | str) -> Sums | None:
    """The sum of an LMDB's records; None where it has none. Raises `DataError` as `Adder`."""
    adder = Adder(lmdb_path)
    with open_records(lmdb_path) as found, shared_out() as share_out:
        for batch in in_batches(progress(found, len(found), "mean", "img")):
            adder.add(batch, share_out)
    return adder.sums()


def _record(
    lmdb_path: Path | str, key: bytes | memoryview, value: bytes | memoryview
) -> np.ndarray:
    return pixels(parse_datum(value, f"{lmdb_path}: {bytes(key)!r}"))


def _sum_of_few(lmdb_path: Path | str, total: np.ndarray, items: Sequence[Item]) -> np.ndarray:
    """The sum of a few records that are as `total` is."""
    # Of few records, and so in few bits: eight times as fast as adding to 64.
    assert len(items) <= _FEW
    few = np.zeros(total.shape, total.dtype if total.dtype == np.float64 else np.uint16)
    for key, value in items:
        record = _record(lmdb_path, key, value)
        if record.shape != total.shape or not np.can_cast(record.dtype, total.dtype):
            raise DataError(
                f"{lmdb_path}: record {bytes(key)!r} is {record.dtype} {record.shape}, the first "
                f"{'float32' if total.dtype == np.float64 else 'uint8'} {total.shape}. Remove the LMDB and run again."
            )
        few += record
    return few


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


def write_sums(part: Sums | None, path: Path | str, of: str = "") -> None:
    """Keep a part's sum for `combine`, as .npz; `of` says what it is the sum of."""
    part = part or Sums(np.zeros(0, np.int64), 0)
    with io.BytesIO() as data:
        np.savez(data, total=part.total, count=np.int64(part.count), of=np.array(of))
        write_bytes(path, data.getvalue())


def read_sums(path: Path | str) -> Sums | None:
    """The sum that `write_sums` wrote."""
    return read_sums_of(path)[0]


def read_sums_of(path: Path | str) -> tuple[Sums | None, str]:
    """That, and what it is the sum of."""
    with Path(path).open("rb") as f, np.load(f, allow_pickle=False) as found:
        count = int(found["count"])
        return Sums(found["total"], count) if count else None, str(found["of"])


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
