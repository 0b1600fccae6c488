"""An LMDB that follows its list equals one built from nothing, and costs what changed."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st

from recaffe import mean
from recaffe.errors import DataError, MachineError
from recaffe.lmdb import read, records, totals, transaction, update
from tests.disk import occupied, watched
from tests.lists import Item, List, Lists, contents

OLD = {f"bild {i} ü.png": Item(i, i % 3) for i in range(24)}


@pytest.fixture(autouse=True)
def _in_a_hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    """No power fails during these tests."""
    monkeypatch.setattr(os, "fsync", lambda _: None)


@pytest.fixture
def lists(tmp_path: Path) -> Lists:
    """An LMDB of the list `old`."""
    return Lists(tmp_path).begun("old", OLD)


def becomes(lists: Lists, items: List, decoded: int | None = None, name: str = "new") -> None:
    """Update to a list; only as many pictures as `decoded` may be read, at most."""
    lists.lay(name, items)
    fresh = lists.fresh(name)
    if decoded is not None:
        before = contents(lists.store)
        have = {(records_of(lists)[k.decode()].picture) for k, _ in before}
        root = lists.folder / name
        for picture, item in items.items():
            if lists.sums[item.content] in have:
                (root / picture).unlink()
        assert len(list(root.iterdir())) == decoded
    note = lists.update(name, items)
    assert contents(lists.out) == fresh
    assert note == read.describe(lists.folder / f"fresh_{name}")
    total, wanted = totals.kept(lists.store, note["sha256"]), mean.sums(lists.out)
    if lists.settings["lmdb"]["encoded"] == "none" and wanted:
        assert total and total.count == wanted.count
        np.testing.assert_array_equal(total.total, wanted.total, strict=True)
    else:
        assert total is None


def records_of(lists: Lists) -> dict[str, records.Record]:
    return dict(records.Table(lists.store / records.TABLE))


NAMES = [f"{c} {i}.png" for i, c in enumerate("aäöüx#yz0_")]
ITEMS = st.builds(Item, st.integers(0, 5), st.integers(0, 2), st.integers(1, 2))
EDITS = st.dictionaries(st.sampled_from(NAMES), st.none() | ITEMS, max_size=3)


@examples(max_examples=15, deadline=None, derandomize=True, database=None)
@given(st.dictionaries(st.sampled_from(NAMES), ITEMS), st.lists(EDITS, max_size=3))
def test_any_sequence_of_changes_equals_a_build_from_nothing(
    items: dict[str, Item], edits: list[dict[str, Item | None]]
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        lists = Lists(Path(folder))
        items = {f"{i}.png": Item(i % 4) for i in range(20)} | items
        for step, edit in enumerate([{}, *edits]):
            items = {k: i for k, i in {**items, **edit}.items() if i}
            becomes(lists, items, name=str(step))


def test_only_what_changed_is_decoded(lists: Lists) -> None:
    new = {**OLD, "bild 3 ü.png": Item(100, 0), "bild 4 ü.png": Item(101, 2), "neu.png": Item(102)}
    del new["bild 9 ü.png"], new["bild 10 ü.png"]
    becomes(lists, new, decoded=3)


def test_pictures_under_another_name_or_label_are_not_decoded(lists: Lists) -> None:
    new = dict(OLD)
    new["anders.png"] = new.pop("bild 0 ü.png")
    new["bild 1 ü.png"], new["bild 2 ü.png"] = new["bild 2 ü.png"], new["bild 1 ü.png"]
    new["bild 3 ü.png"] = Item(3, 7)
    new["bild 4 ü.png"] = Item(4, 1, times=3)
    becomes(lists, new, decoded=0)


def test_an_unchanged_list_writes_nothing(lists: Lists) -> None:
    was = (lists.store / "data.mdb").stat()
    becomes(lists, OLD, decoded=0)
    now = (lists.store / "data.mdb").stat()
    assert (was.st_mtime_ns, was.st_ino, was.st_size) == (now.st_mtime_ns, now.st_ino, now.st_size)


@pytest.mark.parametrize(("encoded", "threads"), [("none", 2), ("png", 1), ("jpg", 1)])
def test_other_settings_build_it_anew(tmp_path: Path, encoded: str, threads: int) -> None:
    lists = Lists(tmp_path, threads, encoded="none", width=120, height=100)
    lists.lay("old", OLD)
    lists.update("old", OLD)
    lists.settings["lmdb"].update(width=100, encoded=encoded)
    becomes(lists, OLD, name="wide")
    becomes(lists, {**OLD, "bild 5 ü.png": Item(50, 1)}, decoded=1)


def test_a_change_of_more_than_a_quarter_builds_it_anew(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    lists = Lists(tmp_path, width=100, height=100)
    lists.lay("old", OLD)
    for changed, anew in ((5, False), (7, True)):
        new = {
            k: Item(100 * changed + i) if i < changed else v for i, (k, v) in enumerate(OLD.items())
        }
        shutil.rmtree(lists.folder / "lmdb", ignore_errors=True)
        lists.update("old", OLD)
        capfd.readouterr()
        becomes(lists, new, name=str(changed))
        assert ("built from nothing" in capfd.readouterr().err) == anew


def test_what_is_published_is_one_file_and_no_copy(lists: Lists) -> None:
    assert [p.name for p in lists.out.iterdir()] == ["data.mdb"]
    assert (lists.out / "data.mdb").samefile(lists.store / "data.mdb")


def test_without_hard_links_a_relative_link_does(
    lists: Lists, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def no_links(*_: Any) -> None:
        raise OSError(errno.EPERM, "no links here")

    monkeypatch.setattr(os, "link", no_links)
    lists.update("old", OLD)
    moved = tmp_path.rename(tmp_path.with_name("moved elsewhere"))
    assert contents(moved / "train_lmdb") == contents(moved / "lmdb" / "train")
    moved.rename(tmp_path)


@pytest.mark.parametrize(
    ("side", "n", "changed", "left"),
    [(64, 80, 17, 0.25), (64, 80, 17, 0.55), (64, 80, 60, 0.75), (28, 200, 20, 0.55)],
)
def test_the_disk_never_holds_two_copies(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, side: int, n: int, changed: int, left: float
) -> None:
    """Pictures are replaced several times over, and then some removed."""
    lists = Lists(tmp_path, width=side, height=side)
    items = {f"{i}.png": Item(i) for i in range(n)}
    lists.lay("old", items)
    lists.update("old", items)
    full = occupied(lists)
    seen = watched(lists, monkeypatch)
    for step in range(3):
        items |= {f"{(step * 7 + i) % n}.png": Item((step + i + 1) % n) for i in range(changed)}
        lists.lay(str(step), items)
        lists.update(str(step), items)
    few = {k: v for i, (k, v) in enumerate(items.items()) if i < left * n}
    lists.lay("few", few)
    lists.update("few", few)
    monkeypatch.undo()
    assert full < max(seen) < 2 * full
    assert contents(lists.out) == lists.fresh("few")
    fresh = (lists.folder / "fresh_few" / "data.mdb").stat().st_size
    assert (lists.store / "data.mdb").stat().st_size < 2 * fresh


@pytest.mark.parametrize("side", [1, 26, 28, 37, 64])
def test_records_of_any_size_find_room(tmp_path: Path, side: int) -> None:
    lists = Lists(tmp_path, width=side, height=side)
    items = {f"{i}.png": Item(i % 3) for i in range(300)}
    lists.lay("old", items)
    assert lists.update("old", items)["records"] == 300
    becomes(lists, {**items, **{f"neu {i}.png": Item(3) for i in range(60)}})


def test_small_records_that_share_pages_are_updated_too(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    lists = Lists(tmp_path, width=8, height=8)
    items = {f"{i}.png": Item(i % 50, i % 3) for i in range(500)}
    lists.lay("old", items)
    lists.update("old", items)
    capfd.readouterr()
    becomes(lists, {**items, "7.png": Item(500), "neu.png": Item(501)}, decoded=2)
    assert "499 records kept" in capfd.readouterr().err


def test_free_pages_are_given_up_when_they_are_the_larger_part(lists: Lists) -> None:
    few = {k: v for i, (k, v) in enumerate(OLD.items()) if i < 9}
    becomes(lists, few, decoded=0)
    fresh = (lists.folder / "fresh_new" / "data.mdb").stat().st_size
    assert (lists.store / "data.mdb").stat().st_size <= 1.1 * fresh
    becomes(lists, {**few, "neu.png": Item(60)}, decoded=1, name="grown")


def test_a_picture_that_vanished_keeps_the_old_records(lists: Lists) -> None:
    before = contents(lists.store)
    new = {**OLD, "weg.png": Item(70)}
    lists.lay("new", new)
    (lists.folder / "new" / "weg.png").unlink()
    with pytest.raises(DataError, match="weg.png"):
        lists.update("new", new)
    assert contents(lists.store) == before
    assert not lists.out.exists()


def test_a_picture_that_changed_since_the_scan_is_refused(lists: Lists) -> None:
    new = {**OLD, "neu.png": Item(70)}
    lists.lay("new", new)
    (lists.folder / "new" / "neu.png").write_bytes(lists.content(71).read_bytes())
    with pytest.raises(DataError, match="neu.png changed since it was scanned.*Run the same"):
        lists.update("new", new)


def test_a_full_disk_keeps_the_old_records(lists: Lists, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(fd: int, at: int, length: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    before, size = contents(lists.store), (lists.store / "data.mdb").stat().st_size
    new = {**OLD, "neu.png": Item(70)}
    lists.lay("new", new)
    with monkeypatch.context() as patch:
        patch.setattr(os, "posix_fallocate", full)
        with pytest.raises(MachineError, match="No space left.*train_lmdb.*run the same command"):
            lists.update("new", new)
    assert contents(lists.store) == before
    assert (lists.store / "data.mdb").stat().st_size == size
    lists.update("new", new)
    assert contents(lists.out) == lists.fresh("new")


@pytest.mark.parametrize("then", ["old", "new"])
def test_a_table_of_another_transaction_is_checked_record_by_record(
    lists: Lists, then: str
) -> None:
    """As after a kill between the transaction and the table; the next list may be either."""
    table = (lists.store / records.TABLE).read_bytes()
    new = {**OLD, "bild 3 ü.png": Item(100, 0), "bild 4 ü.png": Item(4, 9)}
    becomes(lists, new)
    (lists.store / records.TABLE).write_bytes(table)
    lists.update(then, OLD if then == "old" else new)
    assert contents(lists.out) == lists.fresh(then)


def flip_value(store: Path) -> None:
    data = (store / "data.mdb").read_bytes()
    at = data.rindex(contents(store)[5][1][100:140]) + 20
    (store / "data.mdb").write_bytes(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])


def flip_table(store: Path) -> None:
    data = (store / records.TABLE).read_bytes()
    at = data.rindex(b" 1 ") + 1
    (store / records.TABLE).write_bytes(data[:at] + b"2" + data[at + 1 :])


def cut(store: Path) -> None:
    os.truncate(store / "data.mdb", (store / "data.mdb").stat().st_size - 4096)


DAMAGES: dict[str, Callable[[Path], Any]] = {
    "a flipped byte in a record": flip_value,
    "a flipped byte in the table": flip_table,
    "a file cut short": cut,
    "an empty file": lambda store: (store / "data.mdb").write_bytes(b""),
    "no LMDB": lambda store: (store / "data.mdb").unlink(),
    "no table": lambda store: (store / records.TABLE).unlink(),
    "a table of nothing": lambda store: (store / records.TABLE).write_bytes(b"[]\n"),
    "another's lock files": lambda store: (store / "lock.mdb").write_bytes(os.urandom(8192)),
    "no lock file": lambda store: (store / "lock").unlink(),
    "what a kill left": lambda store: (store / ".train_lmdb.x.1.tmp").mkdir(),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damage_is_never_accepted(lists: Lists, damage: str) -> None:
    lists.out.rename(lists.folder / "kept")  # as Snakemake removes it
    DAMAGES[damage](lists.store)
    becomes(lists, {**OLD, "neu.png": Item(70)})
    assert {p.name for p in lists.store.iterdir()} == {
        "data.mdb",
        "lock",
        records.TABLE,
        totals.NAME,
    }


def test_the_table_of_an_update_that_was_killed_never_fits_a_later_transaction(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One kill before the update's end; one after the empty transaction that the next begins with."""
    lists = Lists(tmp_path)
    many = {f"{i}.png": Item(i) for i in range(60)}
    items = {"many": many, "freeing": {**many, **{f"{i}.png": Item(100 + i) for i in range(6)}}}
    items["killed"] = {**many, "0.png": Item(200), "1.png": Item(201)}
    items["wanted"] = {**many, "0.png": Item(200), "1.png": Item(211)}
    for name, those in items.items():
        lists.lay(name, those)
    lists.update("many", many)
    lists.update("freeing", items["freeing"])  # where pages are free, that transaction comes first
    before = contents(lists.store)

    def kill(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        end = records.write

        def write_and_die(*args: Any) -> None:
            end(*args)
            kill()

        patch.setattr(records, "write", write_and_die)
        with pytest.raises(KeyboardInterrupt):
            lists.update("killed", items["killed"])
    assert (lists.store / records.NEXT).exists()
    with monkeypatch.context() as patch:
        patch.setattr(transaction, "Transaction", kill)
        with pytest.raises(KeyboardInterrupt):
            lists.update("wanted", items["wanted"])
    assert contents(lists.store) == before
    said: list[str] = []
    monkeypatch.setattr(update, "line", said.append)
    lists.update("wanted", items["wanted"])
    assert not [x for x in said if "built from nothing" in x]
    assert contents(lists.out) == lists.fresh("wanted")


def test_two_processes_do_not_write_to_one_store(lists: Lists) -> None:
    hold = "import fcntl, sys; f = open(sys.argv[1], 'w'); fcntl.lockf(f, fcntl.LOCK_EX); print(flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-c", hold, str(lists.store / "lock")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as other:
        assert other.stdout
        other.stdout.readline()
        with pytest.raises(MachineError, match="Another process is at work on"):
            lists.update("old", OLD)
        other.communicate(b"\n")
    lists.update("old", OLD)


def test_a_list_that_the_manifest_does_not_know_is_refused(lists: Lists) -> None:
    lists.lay("new", {"fremd.png": Item(80)})
    lists.sums[80] = ""
    with pytest.raises(DataError, match="fremd.png stands in a list but not in the manifest"):
        lists.update("new", {})


def unread(*_: Any) -> Any:
    raise AssertionError("all records are read")


def test_records_of_an_lmdb_that_nobody_wrote_to_are_not_read_again(
    lists: Lists, monkeypatch: pytest.MonkeyPatch
) -> None:
    new = {**OLD, "bild 3 ü.png": Item(100, 0), "neu.png": Item(102)}
    del new["bild 9 ü.png"]
    lists.lay("new", new)
    with monkeypatch.context() as patch:
        patch.setattr(read, "digests", unread)
        lists.update("new", new)
    assert contents(lists.out) == lists.fresh("new")


@pytest.mark.parametrize("touched", ["its time", "a copy", "no total"])
def test_records_of_an_lmdb_that_may_be_another_are_read(
    lists: Lists, monkeypatch: pytest.MonkeyPatch, touched: str
) -> None:
    file = lists.store / "data.mdb"
    if touched == "its time":
        os.utime(file)
    elif touched == "a copy":
        shutil.copy2(file, lists.folder / "copy")
        os.replace(lists.folder / "copy", file)
    else:
        (lists.store / totals.NAME).unlink()
    seen: list[Path] = []
    digests = read.digests
    monkeypatch.setattr(read, "digests", lambda p, *a, **k: seen.append(p) or digests(p, *a, **k))
    becomes(lists, {**OLD, "neu.png": Item(70)})
    assert lists.store in seen
