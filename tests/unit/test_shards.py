"""Shards of an LMDB, joined or merged, are the LMDB that one job would have written."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from recaffe import mean
from recaffe.errors import DataError, MachineError
from recaffe.lmdb import read, shards, totals
from recaffe.lmdb.update import update
from tests.lists import Item, Lists, contents

SHARDS = 5
ITEMS = {f"{i}.png": Item(i, i % 3) for i in range(12)}


@pytest.fixture
def lists(tmp_path: Path) -> Lists:
    lists = Lists(tmp_path, width=20, height=16)
    lists.lay("all", ITEMS)
    lists.lay("few", {"0.png": Item(0, 1)})  # leaves shards empty
    return lists


def write(lists: Lists, name: str, count: int, scratch: str = "") -> list[Path]:
    """The folders of all shards."""
    root, made = lists.folder / name, []
    sums = {str(root / p): lists.sums[item.content] for p, item in ITEMS.items()}
    for i in range(count):
        stem = shards.name("train", i, count)
        store, out = lists.folder / "lmdb" / stem, lists.folder / "shards" / f"{stem}_lmdb"
        update(
            lists.folder / f"{name}.txt", str(root), out, store, lists.settings, 0, 1, sums.items(),
            (i, count), scratch, add_up=True,
        )  # fmt: skip
        shards.write_digests(store, out.with_name(f"{stem}.txt"))
        made.append(out)
    return made


def digests(parts: list[Path]) -> list[Path]:
    return [p.with_name(p.name.replace("_lmdb", ".txt")) for p in parts]


def all_records(path: Path) -> list[tuple[bytes, bytes]]:
    with read.open_records(path) as found:
        return [(bytes(k), bytes(v)) for k, v in found]


@pytest.mark.parametrize("name", ["all", "few"])
@pytest.mark.parametrize("make", [shards.join, shards.merge])
def test_shards_read_as_the_whole(lists: Lists, name: str, make: Any) -> None:
    whole = lists.fresh(name)
    parts = write(lists, name, SHARDS)
    out = lists.folder / "train_lmdb"
    note = make(parts, digests(parts), out)
    fresh = lists.folder / f"fresh_{name}"
    assert note == read.describe(fresh) == read.describe(out)
    assert all_records(out) == whole
    assert read.keys(out) == read.keys(fresh)
    assert len({len(contents(part)) for part in parts}) > 1, "shards of different sizes"
    assert (len(list(out.glob("data.mdb"))) == 1) == (make is shards.merge)
    np.testing.assert_array_equal(
        mean.combine(map(mean.sums, parts), out), mean.compute(fresh), strict=True
    )


def test_records_are_found_by_number_in_any_order(lists: Lists) -> None:
    whole = lists.fresh("all")
    out = lists.folder / "train_lmdb"
    parts = write(lists, "all", SHARDS)
    shards.join(parts, digests(parts), out)
    with read.open_records(out) as found:
        for place in (0, 1, 5, 11, 2, 3, 3, 11, 0, 7):
            assert bytes(found.value(place)) == whole[place][1]


def test_joining_takes_no_copy(lists: Lists) -> None:
    parts = write(lists, "all", 3)
    out = lists.folder / "train_lmdb"
    shards.join(parts, digests(parts), out)
    for part, joined in zip(parts, sorted(out.iterdir()), strict=True):
        assert (joined / "data.mdb").samefile(part / "data.mdb")


def test_a_sum_survives_its_file(lists: Lists) -> None:
    for part in write(lists, "few", SHARDS):
        found = mean.sums(part)
        mean.write_sums(found, lists.folder / "sum.npz")
        again = mean.read_sums(lists.folder / "sum.npz")
        assert (found is None) == (again is None) == (not contents(part))
        if found is not None and again is not None:
            assert found.count == again.count
            np.testing.assert_array_equal(found.total, again.total, strict=True)


def test_a_shards_sum_is_kept_beside_it_also_where_it_was_written_elsewhere(lists: Lists) -> None:
    (lists.folder / "scratch").mkdir()
    for scratch in ("", str(lists.folder / "scratch")):
        for part in write(lists, "few", SHARDS, scratch):
            store = lists.folder / "lmdb" / part.name.removesuffix("_lmdb")
            found, wanted = totals.kept(store, read.describe(part)["sha256"]), mean.sums(part)
            assert (found is None) == (wanted is None)
            if found and wanted:
                np.testing.assert_array_equal(found.total, wanted.total, strict=True)


def test_shards_of_another_number_are_removed(lists: Lists) -> None:
    write(lists, "all", 2)
    for folder in (lists.folder / "lmdb", lists.folder / "shards"):
        (folder / "val_0of2").mkdir(exist_ok=True)
        shards.discard(folder, "train", 3)
        assert [p.name for p in folder.iterdir()] == ["val_0of2"]
    write(lists, "all", 3)
    before = sorted((lists.folder / "lmdb").iterdir())
    shards.discard(lists.folder / "lmdb", "train", 3)
    assert sorted((lists.folder / "lmdb").iterdir()) == before


def test_a_shard_that_lacks_records_is_not_joined(lists: Lists) -> None:
    parts = write(lists, "all", 3)
    with pytest.raises(DataError, match="run the same command again"):
        shards.join(parts[:2], digests(parts), lists.folder / "train_lmdb")
    assert not (lists.folder / "train_lmdb").exists()


def test_local_scratch_makes_the_same_and_is_left_empty(
    lists: Lists, monkeypatch: pytest.MonkeyPatch
) -> None:
    scratch = lists.folder / "scratch"
    scratch.mkdir()
    monkeypatch.setenv("SCRATCH", str(scratch))
    whole = lists.fresh("all")
    for _ in range(2):  # built, then updated
        (part,) = write(lists, "all", 1, "$SCRATCH")
        assert contents(part) == whole
        assert not list(scratch.iterdir())
        store = lists.folder / "lmdb" / part.name.removesuffix("_lmdb")
        assert {p.name for p in store.iterdir()} == {
            "data.mdb",
            "lock",
            "records.txt",
            "total.npz",
        }


def test_scratch_that_a_machine_lacks_is_named(lists: Lists) -> None:
    with pytest.raises(MachineError, match=r"lmdb.scratch is '\$NOT_SET'"):
        write(lists, "all", 1, "$NOT_SET")
