"""An LMDB brought up to date with its list: only what changed is decoded, in one transaction.

Snakemake removes a rule's outputs before it runs, so the LMDB lives in a folder that is no output,
the store, and what is published under the output's name is a link to its file: one copy on disk.
A kill leaves the store's old or new content, since LMDB's transactions are atomic.

The disk never holds two copies: at any moment, less than twice what the LMDB took before, or what a
new one takes where that is more. And what an update leaves is at most twice its records.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import platform
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from itertools import zip_longest
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import lmdb
import numpy as np

from recaffe import mean, stages
from recaffe.errors import DataError, MachineError
from recaffe.files import explain_os_error, write_aside
from recaffe.images import decoded
from recaffe.images.decode import VERSIONS
from recaffe.lmdb import read, records, totals
from recaffe.lmdb.entries import Entries, read_list
from recaffe.lmdb.records import Record, UnknownError
from recaffe.lmdb.room import Needs, used_pages
from recaffe.lmdb.transaction import transaction, trim
from recaffe.lmdb.write import build, to_datum, workers
from recaffe.pool import ordered_map, worker_pool
from recaffe.progress import line, progress
from recaffe.proto import caffe_pb2 as pb

_DATA, _LOCK = "data.mdb", "lock"
_KEPT = (_DATA, _LOCK, records.TABLE, records.NEXT, totals.NAME)
# Share of free pages above which the LMDB is copied without them. The file is then at most 1.3 times
# what it was before the update, and the copy less than half of that: less than 1.95 together.
_MOST_FREE = 1 / 2


def update(
    list_file: Path,
    root: str,
    out: Path,
    store: Path,
    settings: dict[str, Any],
    seed: int,
    threads: int,
    pictures: Iterable[tuple[str, str]],
    shard: tuple[int, int] = (0, 1),
    scratch: str = "",
    kept: Path | None = None,
    add_up: bool = False,
) -> dict[str, Any]:
    """Make the LMDB folder `out` hold the list's records; returns `read.describe`'s note of it.

    `shard` (index, number of shards) takes only the records of that shard. With a folder `scratch`,
    LMDB writes there, and the file is moved to the store when it is right: for disks that machines share.
    `kept` is the folder where a scan may have left images (`images.decoded`). With `add_up`, the sum of the records
    is kept for the mean (`totals`).

    `pictures` has the path, root included, and the SHA-256 of each picture's file. A record whose
    picture and label are as before is kept; one whose picture the LMDB has under another key or
    label is copied; all others are decoded. Every record is then read and hashed, or the new ones alone
    where nothing but recaffe has written to the LMDB since the last time. Raises `DataError`
    for a picture that can't be decoded or isn't the one that was scanned, `MachineError` when
    the disk is full or another process works on the store; the store then keeps its old content.
    """
    places = decoded.places(kept, settings) if kept else ()
    entries = read_list(list_file, seed, shard).with_digests(root, pictures, places)
    recipe = _recipe(settings)
    add_up = add_up and settings["lmdb"]["encoded"] == "none"
    with _alone(store):
        _clear(store, out)
        with _on_scratch(store, scratch) as work:
            try:
                content, total = _change(
                    work, entries, root, settings, threads, recipe, out, add_up
                )
            except UnknownError as reason:
                line(f"{out.name} is built from nothing: {reason}.")
                for name in (records.NEXT, records.TABLE, totals.NAME, _DATA):
                    (work / name).unlink(missing_ok=True)
                new = work / out.name
                build(entries, root, new, settings, threads)
                os.replace(new / _DATA, work / _DATA)
                total = mean.Adder(work) if add_up else None
                content = _noted(work, recipe, _as_written(entries, _read_all(work, total)))
            (work / records.NEXT).unlink(missing_ok=True)
            if total:
                totals.keep(work, total.sums(), content)
            note = read.note(work, content)
        _clear(store, out)
        _publish(store, out)
    return note


@contextmanager
def _on_scratch(store: Path, scratch: str) -> Iterator[Path]:
    """Where LMDB writes: in the store, or in a copy of it under `scratch` that is moved back."""
    if not scratch:
        yield store
        return
    folder = Path(os.path.expandvars(scratch)).expanduser()
    if not folder.is_dir():
        raise MachineError(
            f"lmdb.scratch is {scratch!r}, and {folder} is no folder on this machine ({platform.node()}). Name "
            "one that every machine has, or leave lmdb.scratch empty."
        )
    with TemporaryDirectory(prefix="recaffe-lmdb-", dir=folder) as name:
        work = Path(name)
        for kept in (
            _DATA,
            records.TABLE,
            records.NEXT,
        ):  # not its total: what was copied is read anew
            if (store / kept).exists():
                shutil.copyfile(store / kept, work / kept)
        yield work
        # The newer table first, under the name that is believed for a newer content only.
        for source, target in (
            (records.TABLE, records.NEXT),
            (_DATA, _DATA),
            (records.TABLE, records.TABLE),
            (totals.NAME, totals.NAME),
        ):
            if not (work / source).exists():
                continue  # only a training set's has a sum
            with write_aside(store / target) as aside:
                shutil.copyfile(work / source, aside)
        (store / records.NEXT).unlink()


def _recipe(settings: dict[str, Any]) -> dict[str, Any]:
    """All that the bytes of a record follow from, besides its picture and label."""
    return {
        "stage": stages.LMDB,
        "lmdb": settings["lmdb"],
        "background": settings["scan"]["background"],
        **VERSIONS,
    }


def _change(
    store: Path,
    entries: Entries,
    root: str,
    settings: dict[str, Any],
    threads: int,
    recipe: dict[str, Any],
    out: Path,
    add_up: bool,
) -> tuple[str, mean.Adder | None]:
    """Put and delete what differs; returns the LMDB's `read.Digest`, and the sum of its records.

    Raises `UnknownError`.
    """
    before = records.content(store)
    with records.opened(store) as env:
        old = records.settle(store, recipe, records.known(store, env, recipe))
        total = totals.kept(store, before) if before and add_up else None
        adder = mean.Adder(store, total) if total else None
        trusted = bool(before) and bool(adder) == add_up
        trim(store)  # what a kill may have left
        values = np.zeros(len(entries), "V32")  # SHA-256 of each record, as far as they are known
        numbers, gone = _differences(entries, old, values)
        puts = entries.select(numbers)
        if not len(old):
            raise UnknownError(f"{len(puts)} of {len(entries)} records are new or changed")
        needs = Needs(env, len(puts), len(gone), len(entries))
    if needs.pages > needs.room:
        raise UnknownError(f"{len(puts)} of {len(entries)} records are new or changed")
    # The same picture in the LMDB already, under whatever key and label.
    wanted = {e.picture for e in puts}
    same = {r.picture: (key, r.value) for key, r in old if r and r.picture in wanted}
    decode = entries.select(
        [n for n, e in zip(numbers, puts, strict=True) if e.picture not in same]
    )
    line(
        f"{out.name}: {len(entries) - len(puts)} records kept, {len(gone)} removed, "
        f"{len(puts) - len(decode)} copied, {len(decode)} to decode."
    )
    work = partial(
        to_datum, root=root, lmdb_settings=settings["lmdb"], scan_settings=settings["scan"]
    )
    if puts or gone:
        with (
            worker_pool(workers(threads, decode)) as pool,
            transaction(store, needs, out) as txn,
        ):
            datums = progress(ordered_map(pool, work, decode, 1), len(decode), out.name, "img")
            for number, entry in zip(numbers, puts, strict=True):
                if entry.picture in same:
                    value = _relabelled(txn.old, *same[entry.picture], entry.label)
                else:
                    value = next(datums)
                if adder:
                    adder.change(entry.key, new=value, old=txn.old.get(entry.key.encode()))
                txn.put(entry.key, value)
                values[number] = hashlib.sha256(value).digest()
            for key in gone:
                if adder:
                    adder.change(key, old=txn.old.get(key.encode()))
                txn.delete(key)
            rows = zip(entries, values, strict=True)
            new = ((e.key, Record(e.picture, e.label, v.tobytes().hex())) for e, v in rows)
            records.write(store / records.NEXT, recipe, new, txn.new.id())
    _compact(store, store / out.name)
    table = records.Table(store / records.NEXT) if puts or gone else old
    with _telling_damage(), read.open_lmdb(store):  # for all of it: it is checked each time
        if trusted:
            _check(store, puts, values[numbers], len(entries))
        else:
            adder = mean.Adder(store) if add_up else None
            _check_all(_read_all(store, adder), table)
        content = records.promote(store) if puts or gone else _noted(store, recipe, old)
    return content, adder


def _differences(
    entries: Entries, old: records.Known, values: np.ndarray
) -> tuple[list[int], list[str]]:
    """Numbers of the entries that must be put, and keys that must go; the others' `values` are set."""
    puts, gone = [], []
    rows = iter(old)
    row = next(rows, None)
    for number, entry in enumerate(entries):
        while row and row[0] < entry.key:
            gone.append(row[0])
            row = next(rows, None)
        record = row[1] if row and row[0] == entry.key else None
        if record and record[:2] == (entry.picture, entry.label):
            values[number] = bytes.fromhex(record.value)
        else:
            puts.append(number)
        if row and row[0] == entry.key:
            row = next(rows, None)
    if row:
        gone += [row[0], *(key for key, _ in rows)]
    return puts, gone


def _as_written(entries: Entries, found: Iterator[tuple[str, str]]) -> Iterator[tuple[str, Record]]:
    for entry, (key, value) in zip(entries, found, strict=True):
        assert entry.key == key
        yield key, Record(entry.picture, entry.label, value)


def _noted(store: Path, recipe: dict[str, Any], table: Iterable[tuple[str, Record | None]]) -> str:
    """Write the table of an LMDB that holds just that; returns its `read.Digest`."""
    transaction, file = records.transaction_of(store), records.identity(store)
    rows = ((key, record) for key, record in table if record)
    return records.write(store / records.TABLE, recipe, rows, transaction, file)


def _relabelled(old: lmdb.Transaction, key: str, digest: str, label: int) -> bytes:
    value = old.get(key.encode())
    if value is None or hashlib.sha256(value).hexdigest() != digest:
        raise UnknownError(f"the record {key!r} is not what it was")
    datum = pb.Datum.FromString(bytes(value))
    datum.label = label
    return datum.SerializeToString(deterministic=True)


def _compact(store: Path, new: Path) -> None:
    """Copy the LMDB without its free pages if they are the larger part; then rename."""
    try:
        with read.open_lmdb(store) as env:
            stat, pages = env.stat(), env.info()["last_pgno"] + 1
            if pages - used_pages(stat) <= _MOST_FREE * pages:
                return
            with new.open("wb") as f:
                env.copyfd(f.fileno(), compact=True)
                os.fsync(f.fileno())
    except lmdb.Error as error:
        # The LMDB is as good as before, only larger.
        line(f"{store / _DATA} keeps its free pages: {error}.")
        new.unlink(missing_ok=True)
    else:
        os.replace(new, store / _DATA)


def _read_all(store: Path, adder: mean.Adder | None) -> Iterator[tuple[str, str]]:
    """Each record's key and SHA-256; they are added up on the way, if there is an adder."""
    return read.digests(store, also=adder.add if adder else None)


def _check(store: Path, puts: Entries, values: np.ndarray, records_there: int) -> None:
    """Raise `UnknownError` unless these records have these SHA-256 and there are so many in all."""
    with read.open_lmdb(store) as env, env.begin(buffers=True) as txn:
        there = (txn.get(e.key.encode()) for e in puts)
        same = all(
            v is not None and read.sha256(v) == value.tobytes().hex()
            for v, value in zip(there, values, strict=True)
        )
        if not same or txn.stat()["entries"] != records_there:
            raise UnknownError("some records are not what they were")


def _check_all(found: Iterator[tuple[str, str]], table: records.Known) -> None:
    """Raise `UnknownError` unless what is found are the table's keys and SHA-256."""
    wanted = ((key, record and record.value) for key, record in table)
    if not all(a == b for a, b in zip_longest(found, wanted)):
        raise UnknownError("some records are not what they were")


@contextmanager
def _telling_damage() -> Iterator[None]:
    try:
        yield
    except (DataError, lmdb.Error) as error:
        raise UnknownError(f"it is damaged ({error})") from error


def _publish(store: Path, out: Path) -> None:
    """Give the LMDB its name as an output, without a second copy."""
    with write_aside(out) as aside:
        aside.mkdir()
        link(store / _DATA, aside / _DATA, out)


def link(data: Path, name: Path, out: Path) -> None:
    """Give a file of records another name, in a folder that will be `out`."""
    try:
        os.link(data, name)
    except OSError:  # a file system without hard links
        name.symlink_to(os.path.relpath(data, out))


@contextmanager
def _alone(store: Path) -> Iterator[None]:
    """Hold the store against other processes. The lock ends with this process, however it ends."""
    try:
        store.mkdir(parents=True, exist_ok=True)
        with (store / _LOCK).open("w") as f:
            try:
                # Of this process alone: workers that outlive a kill must not hold it.
                fcntl.lockf(f, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except (BlockingIOError, PermissionError) as error:
                raise MachineError(
                    f"Another process is at work on {store}. Wait for it to end, then run the same "
                    "command again."
                ) from error
            except OSError:  # a disk without locks: Snakemake's own are all there is
                pass
            yield
    except OSError as error:
        raise explain_os_error(error, store) from error


def _clear(store: Path, out: Path) -> None:
    """Remove the published link, which must not show a change half done, and leftovers of kills."""
    leftovers = [p for p in store.iterdir() if p.name not in _KEPT]
    for path in (out, *leftovers):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
