"""Whether an LMDB's pages hang together, told before LMDB itself looks at them.

LMDB trusts its file: a damaged page number or length makes it read beyond the mapped file, which
kills the process. So the B-trees of branch and leaf pages are walked here with every number
checked. Records themselves aren't read, so the walk takes about a hundredth of the file.
Source: the page layout of LMDB 0.9 (mdb.c: MDB_page, MDB_node, MDB_meta, MDB_db).
"""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from recaffe.errors import DataError
from recaffe.lmdb.parts import remedy

_MAGIC, _VERSION = 0xBEEFC0DE, 1
_HEADER = struct.Struct("<QHHHH")  # page number, pad, flags, lower, upper
_META = struct.Struct("<IIQQ")  # magic, version, address, map size
_DB = struct.Struct("<IHHQQQQQ")  # pad, flags, depth, branches, leaves, overflows, entries, root
_TAIL = struct.Struct("<QQ")  # last page, transaction
_BRANCH, _LEAF, _META_FLAG = 0x01, 0x02, 0x08
_BIG = 0x01  # a node whose value stands on pages of its own
_NOWHERE = 0xFFFFFFFFFFFFFFFF  # the root of an empty tree
_NODE = 8  # bytes of a node's header
_INTEGER_KEY, _NO_FOLDER = 0x08, 0x4000
_PAGE_SIZES = [1 << n for n in range(9, 16)]
_MOST_PAGES = 1 << 48  # a branch has 48 bits for a page's number
_MAX_DEPTH = 32  # LMDB's own limit, the size of its cursors' stack


class _DamagedError(Exception):
    pass


@dataclass(frozen=True)
class _Tree:
    depth: int
    entries: int
    root: int


@dataclass(frozen=True)
class _Meta:
    page_size: int
    transaction: int
    last_page: int
    free: _Tree
    main: _Tree


def check(path: Path | str) -> None:
    """Raise `DataError` unless LMDB can read the folder's data.mdb, and write to it, without harm."""
    file = Path(path) / "data.mdb"
    try:
        with file.open("rb") as f:
            fd = f.fileno()
            os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_RANDOM)
            _check(fd, os.fstat(fd).st_size)
    except OSError as error:
        raise DataError(f"{path} is no LMDB: {file}: {error.strerror}.") from error
    except _DamagedError as error:
        raise DataError(f"{path} can't be opened as an LMDB: {error}. {remedy(path)}") from error


def _check(fd: int, size: int) -> None:
    meta = _newest_meta(fd)
    walk = _Walk(fd, meta, size // meta.page_size)
    walk.tree(meta.main, "records")
    walk.tree(meta.free, "lists of free pages", free=True)
    walk.end()


def _newest_meta(fd: int) -> _Meta:
    first = _meta(os.pread(fd, 4096, 0), 0)
    second = _meta(os.pread(fd, 4096, first.page_size), 1)
    if second.page_size != first.page_size:
        raise _DamagedError("its two heads differ in their page size")
    return second if second.transaction > first.transaction else first


def _meta(page: bytes, number: int) -> _Meta:
    at = _HEADER.size
    if len(page) < at + _META.size + 2 * _DB.size + _TAIL.size:
        raise _DamagedError(f"head {number} is cut short")
    flags = _HEADER.unpack_from(page)[2]
    magic, version, *_ = _META.unpack_from(page, at)
    if not flags & _META_FLAG or (magic, version) != (_MAGIC, _VERSION):
        raise _DamagedError(f"head {number} is none of an LMDB's")
    at += _META.size
    page_size, free_flags, *free = _DB.unpack_from(page, at)
    _, main_flags, *main = _DB.unpack_from(page, at + _DB.size)
    last, transaction = _TAIL.unpack_from(page, at + 2 * _DB.size)
    if page_size not in _PAGE_SIZES:
        raise _DamagedError(f"its pages have {page_size} bytes")
    if last >= _MOST_PAGES:
        raise _DamagedError(f"it says that it has {last + 1} pages")
    # The flags of the free pages' tree share their field with the environment's, of which a fixed
    # address in memory and several values a key are none that Caffe writes.
    if main_flags or free_flags & ~_NO_FOLDER != _INTEGER_KEY:
        raise _DamagedError("its keys aren't stored as Caffe stores them")
    return _Meta(
        page_size,
        transaction,
        last,
        _Tree(free[0], free[4], free[5]),
        _Tree(main[0], main[4], main[5]),
    )


class _Walk:
    """Both trees, level by level. `runs` are (first pages, numbers of pages) that somebody owns."""

    def __init__(self, fd: int, meta: _Meta, there: int) -> None:
        self.fd, self.size, self.last, self.there = fd, meta.page_size, meta.last_page, there
        self.visited = self.entries = self.unwritten = 0
        self.free = False
        self.runs: list[tuple[np.ndarray, np.ndarray]] = []

    def tree(self, tree: _Tree, what: str, free: bool = False) -> None:
        """Check one tree; raises `_DamagedError`."""
        self.entries, self.free = 0, free
        if tree.root != _NOWHERE:
            if not 1 <= tree.depth <= _MAX_DEPTH:
                raise _DamagedError(f"the tree of {what} has {tree.depth} levels")
            level = [tree.root]
            for depth in range(tree.depth):
                self.own(np.array(level, np.uint64))
                leaf = depth == tree.depth - 1
                level = [child for page in level for child in self.page(page, leaf)]
        if self.entries != tree.entries:
            raise _DamagedError(f"it has {self.entries} {what}, and its head says {tree.entries}")

    def end(self) -> None:
        """No page may have two owners, nor be missing unless it is free; raises `_DamagedError`."""
        if self.unwritten < self.last + 1 - self.there:
            raise _DamagedError(f"it is cut short, after {self.there} of {self.last + 1} pages")
        if not self.runs:
            return
        starts, counts = (np.concatenate(x) for x in zip(*self.runs, strict=True))
        order = np.argsort(starts, kind="stable")
        starts, counts = starts[order], counts[order]
        twice = starts[:-1] + counts[:-1] > starts[1:]
        if twice.any():
            raise _DamagedError(f"page {starts[1:][twice][0]} is used twice")

    def page(self, number: int, leaf: bool) -> list[int]:
        """Check one page; returns the numbers of its children."""
        self.visited += 1
        if self.visited > self.last:
            raise _DamagedError("its tree runs in a circle")
        page = os.pread(self.fd, self.size, number * self.size)
        own, _, flags, lower, upper = _HEADER.unpack_from(page)
        if own != number or flags != (_LEAF if leaf else _BRANCH):
            raise _DamagedError(f"page {number} is not what it should be")
        if not _HEADER.size <= lower <= upper <= self.size or lower % 2:
            raise _DamagedError(f"page {number} has a wrong length")
        nodes = np.frombuffer(page, "<u2", (lower - _HEADER.size) // 2, _HEADER.size).astype(int)
        # LMDB asserts that a branch of records has two children.
        if len(nodes) < (1 if leaf or self.free else 2):
            raise _DamagedError(f"page {number} is empty")
        if (nodes < upper).any() or (nodes > self.size - _NODE).any() or (nodes % 2).any():
            raise _DamagedError(f"page {number} has a record outside of it")
        words = np.frombuffer(page, "<u2")
        lo, hi, kind, key = (words[nodes // 2 + i].astype(np.int64) for i in range(4))
        length, big = lo | hi << 16, kind == _BIG
        if not leaf:
            length = length * 0
        elif (kind & ~_BIG).any():
            raise _DamagedError(f"page {number} has a value of a kind that Caffe doesn't write")
        sizes = _NODE + key + np.where(big & leaf, 8, length)
        # Nodes lie without gaps, each at an even place.
        if (nodes + sizes > self.size).any() or ((sizes + 1) & ~1).sum() != self.size - upper:
            raise _DamagedError(f"page {number} has a record that leaves it")
        if not leaf:
            return (lo | hi << 16 | kind << 32).tolist()
        self.entries += len(nodes)
        at = nodes + _NODE + key
        starts = np.zeros(0, np.uint64)
        if big.any():
            octets = np.frombuffer(page, np.uint8)[at[big][:, None] + np.arange(8)]
            starts = np.ascontiguousarray(octets).view("<u8")[:, 0]
            self.own(starts, -(-(_HEADER.size + length[big]) // self.size))
        if self.free:
            places = number * self.size + at
            places[big] = starts.astype(np.int64) * self.size + _HEADER.size
            for place, n in zip(places.tolist(), length.tolist(), strict=True):
                self.list_of_free(place, n)
        return []

    def list_of_free(self, place: int, length: int) -> None:
        """A count and as many numbers of pages, which a writer takes on trust."""
        numbers = np.frombuffer(os.pread(self.fd, length, place), "<u8", length // 8)
        if length % 8 or not len(numbers) or numbers[0] != len(numbers) - 1:
            raise _DamagedError("a list of free pages is broken")
        self.own(numbers[1:], used=False)
        self.unwritten += int((numbers[1:] >= self.there).sum())

    def own(self, starts: np.ndarray, counts: np.ndarray | None = None, used: bool = True) -> None:
        """Note pages that belong to one owner; raises `_DamagedError` for such as there are not.

        Only pages in use need be in the file: LMDB doesn't write those at its end that it freed.
        """
        starts = starts.astype(np.uint64)
        counts = np.ones(len(starts), np.int64) if counts is None else counts
        # In this order: a number that is far too large mustn't wrap around.
        beyond = (starts < 2) | (starts > self.last)
        if beyond.any():
            raise _DamagedError(f"it speaks of page {starts[beyond][0]}, and has {self.last + 1}")
        first = starts.astype(np.int64)
        if (first + counts - 1 > self.last).any():
            raise _DamagedError("a record goes beyond its last page")
        if used and (first + counts > self.there).any():
            raise _DamagedError(f"it is cut short, after {self.there} of {self.last + 1} pages")
        self.runs.append((first, counts))
