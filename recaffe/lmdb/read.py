"""LMDB of Datum records, read without a lock file so that read-only mounts work."""

from __future__ import annotations

import hashlib
import json
import threading
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from itertools import accumulate, chain
from pathlib import Path
from typing import Any

import lmdb

from recaffe import real_caffe
from recaffe.errors import DataError, is_out_of_memory
from recaffe.lmdb import pages
from recaffe.lmdb.datum import parse_datum, pixels
from recaffe.lmdb.parts import parts, remedy
from recaffe.progress import progress
from recaffe.threads import ShareOut, in_batches, shared_out

Record = tuple[memoryview, memoryview]  # a record's key and value
Also = Callable[[Sequence[Record], ShareOut], None]  # sees a batch, and how to share work out

# An environment must not be opened twice in a process: (device, inode) → it and its users.
_open: dict[tuple[int, int], tuple[lmdb.Environment, int]] = {}
_lock = threading.Lock()


@contextmanager
def open_lmdb(path: Path | str) -> Iterator[lmdb.Environment]:
    """A read-only environment, shared by all who have it open; raises `DataError` if there is none."""
    key = _identity(path)
    with _lock:
        env, users = _open.get(key) or (_environment(path), 0)
        _open[key] = env, users + 1
    try:
        yield env
    except lmdb.Error as error:  # damage that shows only when a record is read
        if is_out_of_memory(error):
            raise
        raise DataError(f"{path} is broken: {error}. {remedy(path)}") from error
    finally:
        with _lock:
            env, users = _open.pop(key)
            if users > 1:
                _open[key] = env, users - 1
            else:
                env.close()


def _identity(path: Path | str) -> tuple[int, int]:
    try:
        found = (Path(path) / "data.mdb").stat()
    except OSError as error:
        if (Path(path) / "CURRENT").exists():
            raise DataError(
                f"{path} is a LevelDB. The torch engine reads LMDB: write it anew with "
                f"convert_imageset -backend lmdb. {real_caffe.can('read it as it is')}"
            ) from error
        raise DataError(f"{path} is no LMDB: {error.filename}: {error.strerror}.") from error
    return found.st_dev, found.st_ino


def _environment(path: Path | str) -> lmdb.Environment:
    pages.check(path)
    try:
        # Without a lock file, so that read-only mounts and network disks work: nobody writes to an
        # LMDB that has its final name.
        return lmdb.open(str(path), readonly=True, lock=False)
    except lmdb.Error as error:
        if is_out_of_memory(error):  # no room in the address space for the map of the file
            raise
        raise DataError(f"{path} can't be opened as an LMDB: {error}. {remedy(path)}") from error


class Records:
    """All records in key order. Shards are ranges of keys, so they follow one upon the other."""

    def __init__(self, path: Path | str, envs: list[lmdb.Environment], stack: ExitStack) -> None:
        self.path = path
        self._txns = [stack.enter_context(env.begin(buffers=True)) for env in envs]
        self._cursors = [stack.enter_context(txn.cursor()) for txn in self._txns]
        counts = [int(env.stat()["entries"]) for env in envs]
        self._starts = list(accumulate(counts, initial=0))
        self._at = -1

    def __len__(self) -> int:
        return self._starts[-1]

    def __iter__(self) -> Iterator[tuple[memoryview, memoryview]]:
        for txn in self._txns:
            with txn.cursor() as cursor:
                yield from cursor

    def names(self) -> Iterator[bytes]:
        """All keys; no value is read."""
        for txn in self._txns:
            with txn.cursor() as cursor:
                yield from map(bytes, cursor.iternext(values=False))

    def value(self, place: int) -> memoryview:
        """Record number `place`. Keys have no numbers: quick where places are asked for in order."""
        shard = bisect_right(self._starts, place, hi=len(self._cursors)) - 1
        cursor, start = self._cursors[shard], self._starts[shard]
        found = True
        if not start <= self._at <= place:
            found, self._at = cursor.first(), start
        for _ in range(place - self._at):
            found = found and cursor.next()
        if not found:
            raise DataError(f"{self.path} has fewer records than it says. Remove it and run again.")
        self._at = place
        value: memoryview = cursor.value()
        return value


@contextmanager
def open_records(path: Path | str) -> Iterator[Records]:
    """The records of an LMDB or of a folder of shards; raises `DataError` as `open_lmdb` does."""
    with ExitStack() as stack:
        envs = [stack.enter_context(open_lmdb(p)) for p in parts(path)]
        yield Records(path, envs, stack)


def count(path: Path | str) -> int:
    """Number of records."""
    with open_records(path) as found:
        return len(found)


def keys(path: Path | str) -> list[str]:
    """All keys in order."""
    with open_records(path) as found:
        return [key.decode("utf-8", "replace") for key in found.names()]


def first_shape(path: Path | str) -> tuple[int, int, int]:
    """C, H, W of the first record, which Caffe takes for all."""
    with open_records(path) as found:
        if not len(found):
            raise DataError(f"{path} has no records. Remove it and run again.")
        c, h, w = pixels(parse_datum(found.value(0), str(path))).shape
        return int(c), int(h), int(w)


def digests(
    path: Path | str,
    title: str = "",
    also: Also | None = None,
) -> Iterator[tuple[str, str]]:
    """Each key with the SHA-256 of its value, in key order; a bar shows progress under `title`.

    `also` sees each batch of records, which the hash has brought into the processor's cache, and how to
    share work out.
    """
    with open_records(path) as found, shared_out() as share_out:
        pairs: Iterable[Record] = found
        if title:
            pairs = progress(found, len(found), title, "img")
        for batch in in_batches(pairs):
            hashed = share_out(hashes, batch)
            if also:
                also(batch, share_out)
            for (key, _), digest in zip(batch, chain.from_iterable(hashed), strict=True):
                yield bytes(key).decode("utf-8", "surrogateescape"), digest


def hashes(items: Sequence[Record]) -> list[str]:
    """The SHA-256 of each record's value."""
    return [sha256(value) for _, value in items]


def sha256(value: bytes | memoryview) -> str:
    """Hex SHA-256 of a record's value."""
    return hashlib.sha256(value).hexdigest()


class Digest:
    """One SHA-256 over all keys and the SHA-256 of their values, to be added in key order."""

    def __init__(self, values: Iterable[tuple[str, str]] = ()) -> None:
        self._sha = hashlib.sha256()
        for key, value in values:
            self.add(key, value)

    def add(self, key: str, value: str) -> None:
        """Add a key and the SHA-256 of its value."""
        name = key.encode("utf-8", "surrogateescape")
        self._sha.update(len(name).to_bytes(4, "little") + name + bytes.fromhex(value))

    def hex(self) -> str:
        """Of what was added so far."""
        return self._sha.hexdigest()


def describe(path: Path | str, values: Iterable[tuple[str, str]] | None = None) -> dict[str, Any]:
    """`records`, `shape` (C, H, W), and `sha256`, the `Digest` of all.

    Reads every record, unless `values` gives what `digests` gave. A shard may have no records, and
    then has no shape.
    """
    return note(path, Digest(digests(path) if values is None else values).hex())


def note(path: Path | str, content: str) -> dict[str, Any]:
    """What `describe` gives, where the `Digest` of all is known."""
    with open_records(path) as found:
        records = len(found)
        shape = list(first_shape(path)) if records else []
    return {"records": records, "shape": shape, "sha256": content}


def check(path: Path | str, also: Also | None = None) -> None:
    """Raises `DataError` unless the LMDB holds what the note beside it (PATH.json) says.

    All of it is read, as fast as it is hashed; `also` sees it as in `digests`.
    """
    file = Path(f"{path}.json")
    try:
        wanted = json.loads(file.read_text(encoding="utf-8"))["sha256"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"{file}, the note of what {path} holds, can't be read. {remedy(path)}"
        ) from error
    if Digest(digests(path, f"check {Path(path).name}", also)).hex() != wanted:
        raise DataError(
            f"{path} has changed since it was written: {file} has another digest. {remedy(path)}"
        )
