"""Work that is shared out among threads gives what one thread gives."""

from __future__ import annotations

import hashlib
from itertools import chain
from pathlib import Path

import lmdb
import numpy as np
import pytest

from recaffe import mean, threads
from recaffe.errors import DataError
from recaffe.lmdb import read
from recaffe.proto import caffe_pb2 as pb

N = 150  # some batches and a rest


def records(folder: Path, shapes: list[tuple[int, int, int]]) -> tuple[Path, list[np.ndarray]]:
    rng = np.random.default_rng(3)
    arrays = [rng.integers(0, 256, shape, dtype=np.uint8) for shape in shapes]
    with lmdb.open(str(folder / "lmdb"), map_size=2**26) as env, env.begin(write=True) as txn:
        for i, array in enumerate(arrays):
            c, h, w = array.shape
            datum = pb.Datum(channels=c, height=h, width=w, data=array.tobytes(), label=0)
            txn.put(b"%05d" % i, datum.SerializeToString())
    return folder / "lmdb", arrays


@pytest.mark.parametrize("count", [1, 2, 3, 7])
def test_digests_and_sums_are_the_same_on_any_number_of_threads(
    count: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(threads, "count", lambda: count)
    path, arrays = records(tmp_path, [(3, 30, 30)] * N)
    with read.open_records(path) as found:
        wanted = [(bytes(k).decode(), hashlib.sha256(v).hexdigest()) for k, v in found]
    assert list(read.digests(path)) == wanted and len(wanted) == N
    total = mean.sums(path)
    assert total is not None and total.count == N
    assert np.array_equal(total.total, np.sum(arrays, axis=0, dtype=np.int64))


def test_one_record_of_another_shape_far_down_is_named(tmp_path: Path) -> None:
    path, _ = records(tmp_path, [(3, 30, 30)] * (N - 1) + [(3, 30, 29)])
    with pytest.raises(
        DataError, match="00149.*uint8 \\(3, 30, 29\\), the first uint8 \\(3, 30, 30\\)"
    ):
        mean.compute(path)


def test_parts_come_back_in_order_and_all_of_them() -> None:
    with threads.shared_out() as share_out:
        for batch in threads.in_batches(range(N)):
            assert list(chain.from_iterable(share_out(list, batch))) == batch
    assert [len(b) for b in threads.in_batches(range(N))] == [64, 64, 22]
