"""What an update takes of the disk: known before it starts, and taken before LMDB writes.

LMDB writes an update to pages of its own, beside those that it replaces, and uses the old ones again
later: freed pages serve the second transaction after the one that freed them.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from typing import Any

import lmdb

from recaffe.lmdb.records import UnknownError

# Old and new pages stand side by side until the transaction ends: up to this many times the LMDB,
# reached when about a quarter of it has changed.
MOST_ON_DISK = 1.3
_HEADS = 2  # pages at the head of an LMDB


class Needs:
    """Pages: what the LMDB has in use, what an update takes at most, and what it may take."""

    def __init__(self, env: lmdb.Environment, puts: int, gone: int, wanted: int) -> None:
        """For so many records to put and to delete, and to be there in the end."""
        stat = env.stat()
        n, tree = max(1, stat["entries"]), stat["branch_pages"] + stat["leaf_pages"]
        self.page, self.used = stat["psize"], used_pages(stat)
        # A put or a deletion writes a leaf and its branch anew, and splits leave leaves half full.
        grown = 2 + 2 * math.ceil(puts * stat["leaf_pages"] / n)
        self.tree = min(2 * (puts + gone), tree + grown)
        new = self.tree + math.ceil(puts * stat["overflow_pages"] / n)
        # The list of free pages has eight bytes for each, and is written anew with its tree.
        self.free_list = 3 + 2 * (self.used + new) * 8 // self.page
        # An empty transaction before, so that pages which the last update freed are used again.
        self.turn = stat["depth"] + 2
        if env.info()["last_pgno"] + 1 - self.used < self.turn + new // 2:
            self.turn = 0  # few are
        self.pages = self.turn + new + self.free_list
        larger = _HEADS + (self.used - _HEADS) * max(1, wanted / n)
        self.room = int(MOST_ON_DISK * larger) - self.used


def used_pages(stat: Mapping[str, Any]) -> int:
    """Pages that an LMDB's heads and records take."""
    return _HEADS + stat["branch_pages"] + stat["leaf_pages"] + stat["overflow_pages"]


class Disk:
    """The file's blocks beyond its last page, taken before LMDB writes to them through memory.

    A disk that is full is an error here; there, it would kill the process.
    """

    def __init__(self, fd: int, env: lmdb.Environment, room: int) -> None:
        """`room` is how many pages may be taken."""
        self._fd, self._page = fd, env.stat()["psize"]
        self._wanted = self._taken = env.info()["last_pgno"] + 1
        self._most = self._taken + room
        # Large steps need fewer calls, and small LMDBs have no room for them.
        self._step = min(256, 1 + room // 32)

    def take(self, pages: int) -> None:
        """Raises `OSError` if the disk has no room, `UnknownError` if the update may not take it."""
        self._wanted += pages
        if self._wanted > self._most:
            raise UnknownError("more of it is new or changed than there is room for")
        if self._wanted > self._taken:
            end = min(max(self._wanted, self._taken + self._step), self._most)
            os.posix_fallocate(self._fd, self._taken * self._page, (end - self._taken) * self._page)
            self._taken = end
