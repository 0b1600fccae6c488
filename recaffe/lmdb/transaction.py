"""One write transaction of an LMDB that is updated in place: all of it or, on any exception or kill, nothing."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import lmdb

from recaffe.errors import DataError, is_out_of_memory
from recaffe.files import explain_os_error
from recaffe.lmdb import read
from recaffe.lmdb.records import UnknownError
from recaffe.lmdb.room import Disk, Needs
from recaffe.lmdb.write import cant_write

_DATA = "data.mdb"
_BROKEN = (lmdb.CorruptedError, lmdb.PageNotFoundError, lmdb.MapFullError)
_TURN = b"\0"  # a key that no record has


class Transaction:
    """`old` reads what was there before, `new` writes."""

    def __init__(
        self, disk: Disk, needs: Needs, old: lmdb.Transaction, new: lmdb.Transaction
    ) -> None:
        self.old, self.new = old, new
        self._disk, self._page, self._tree = disk, needs.page, needs.tree
        disk.take(needs.free_list)

    def put(self, key: str, value: bytes) -> None:
        """Write a record; raises `OSError` where the disk is full, `UnknownError` where it takes too much."""
        self._touch()
        if len(value) > self._page // 4:  # else it may share a page
            self._disk.take(len(value) // self._page + 1)
        self.new.put(key.encode(), value)

    def delete(self, key: str) -> None:
        """Remove a record; raises as `put`."""
        self._touch()
        self.new.delete(key.encode())

    def _touch(self) -> None:
        pages = min(self._tree, 2)
        self._tree -= pages
        self._disk.take(pages)


@contextmanager
def transaction(store: Path, needs: Needs, out: Path) -> Iterator[Transaction]:
    """The block's puts and deletions in one, of which the disk is known to have room for each.

    Raises `MachineError` for a disk that is full, `UnknownError` for an LMDB that can't be updated.
    """
    file = store / _DATA
    size = file.stat().st_size + needs.room * needs.page + (1 << 20)
    try:
        # Through a map of the file, for else LMDB keeps all new records in memory to the end.
        # Without LMDB's own lock file: it can be missing or stale, and the caller holds the store.
        with (
            file.open("r+b") as f,
            lmdb.open(str(store), map_size=size, lock=False, writemap=True) as env,
        ):
            disk = Disk(f.fileno(), env, needs.room)
            if needs.turn:
                disk.take(needs.turn)
                with env.begin(write=True) as turn:
                    turn.put(_TURN, b"")
                    turn.delete(_TURN)
            with env.begin() as old, env.begin(write=True) as new:
                yield Transaction(disk, needs, old, new)
    except lmdb.Error as error:
        if isinstance(error, _BROKEN):
            raise UnknownError(f"LMDB can't update it ({error})") from error
        if is_out_of_memory(error):
            raise
        raise cant_write(out, error) from error
    except OSError as error:
        raise explain_os_error(error, out) from error
    finally:
        trim(store)


def trim(store: Path) -> None:
    """Cut off what lies beyond the last page: LMDB makes a file as long as its map."""
    with suppress(DataError):  # a damaged one is found by whoever reads it next
        with read.open_lmdb(store) as env:
            end = (env.info()["last_pgno"] + 1) * env.stat()["psize"]
        if (store / _DATA).stat().st_size > end:
            os.truncate(store / _DATA, end)
