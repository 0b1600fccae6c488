"""The mean follows from the sum that an LMDB's job keeps, or from its records."""

from __future__ import annotations

from pathlib import Path

import lmdb
import numpy as np
import pytest

from recaffe import mean
from recaffe.errors import DataError
from recaffe.files import write_json
from recaffe.lmdb import read, totals
from tests.lists import Lists
from tests.unit.test_lmdb_update import OLD, flip_value, unread


@pytest.fixture
def lists(tmp_path: Path) -> Lists:
    return Lists(tmp_path).begun("old", OLD)


def test_the_mean_needs_no_record_where_their_sum_was_kept(
    lists: Lists, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_json(lists.folder / "train_lmdb.json", read.describe(lists.out))
    wanted = mean.compute(lists.out)
    with monkeypatch.context() as patch:
        patch.setattr(mean, "sums", unread)
        patch.setattr(read, "check", unread)
        found = mean.combine([totals.total_of(lists.out, lists.store)], lists.out)
    np.testing.assert_array_equal(found, wanted, strict=True)


@pytest.mark.parametrize("damage", ["gone", "cut", "flipped", "of another content"])
def test_the_mean_reads_the_records_where_their_sum_is_no_use(lists: Lists, damage: str) -> None:
    write_json(lists.folder / "train_lmdb.json", read.describe(lists.out))
    wanted, file = mean.compute(lists.out), lists.store / totals.NAME
    data = file.read_bytes()
    if damage == "gone":
        file.unlink()
    elif damage == "cut":
        file.write_bytes(data[: len(data) // 2])
    elif damage == "flipped":
        at = len(data) // 2
        file.write_bytes(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
    else:
        totals.keep(lists.store, mean.Sums(np.ones((3, 40, 40), np.int64), 9), "0" * 64)
    found = mean.combine([totals.total_of(lists.out, lists.store)], lists.out)
    np.testing.assert_array_equal(found, wanted, strict=True)


@pytest.mark.parametrize("damage", ["a byte", "no Datum"])
def test_an_lmdb_that_was_changed_is_refused_where_the_mean_reads_it(
    lists: Lists, damage: str
) -> None:
    write_json(lists.folder / "train_lmdb.json", read.describe(lists.out))
    (lists.store / totals.NAME).unlink()
    if damage == "a byte":
        flip_value(lists.store)
    else:
        key = read.keys(lists.out)[0].encode()
        with lmdb.open(str(lists.store), lock=False) as env, env.begin(write=True) as txn:
            txn.put(key, bytes([255]) * 9)
    with pytest.raises(DataError, match="has changed since it was written"):
        totals.total_of(lists.out, lists.store)
