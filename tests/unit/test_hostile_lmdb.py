"""LMDBs whose pages would crash liblmdb are refused before it sees them."""

from __future__ import annotations

import struct
import tempfile
from pathlib import Path

import lmdb
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from recaffe.errors import DataError
from recaffe.lmdb import pages, read
from tests import records


def test_a_tree_of_pages_that_would_crash_lmdb_is_refused(tmp_path: Path) -> None:
    """Every byte of the first record's page, and of the heads, once."""
    whole = (records.write_lmdb(tmp_path / "db", [records.raw(p) for p in records.pictures(3, (1, 4, 4))]) / "data.mdb").read_bytes()  # fmt: skip
    refused = 0
    for at in [*range(0, 160), *range(4096, 4096 + 160), *range(8192, 8192 + 40)]:
        file = tmp_path / "db" / "data.mdb"
        file.write_bytes(whole[:at] + bytes([whole[at] ^ 0x81]) + whole[at + 1 :])
        try:
            read.describe(tmp_path / "db")
        except DataError:
            refused += 1
    assert refused > 50


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**32))
@example(313076701)  # a file that ends before the last page, which is free
def test_every_lmdb_that_lmdb_itself_wrote_passes(seed: int) -> None:
    rng = np.random.default_rng(seed)
    with (
        tempfile.TemporaryDirectory() as folder,
        lmdb.open(folder, map_size=2**26, sync=False) as env,
    ):
        for _ in range(int(rng.integers(1, 8))):
            with env.begin(write=True) as txn:
                for number in map(int, rng.integers(0, 200, int(rng.integers(0, 80)))):
                    key = b"%0*d" % (3 + number % 150, number)
                    if rng.random() < 0.4:
                        txn.delete(key)
                    else:
                        txn.put(key, bytes(int(rng.choice([0, 7, 100, 1900, 5000]))))
            pages.check(folder)


@pytest.mark.parametrize("number", [1 << 48, (1 << 63) + 7, (1 << 64) - 2])
def test_a_page_number_beyond_any_file_is_refused(number: int, tmp_path: Path) -> None:
    """In both heads, whose last page it is as well."""
    file = records.write_lmdb(tmp_path / "db", [records.raw(records.pictures(1, (1, 4, 4))[0])]) / "data.mdb"  # fmt: skip
    whole = bytearray(file.read_bytes())
    for head in (0, 4096):
        at = head + 16 + 24 + 48 + 40  # the root of the records' tree, after both trees' counts
        struct.pack_into("<QQ", whole, at, number, number)
    file.write_bytes(whole)
    with pytest.raises(DataError, match="can't be opened as an LMDB: it says that it has"):
        read.describe(tmp_path / "db")
