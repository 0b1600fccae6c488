"""What is known of an LMDB's records without decoding: which picture, label and bytes each one is.

The table beside the LMDB is a memory of facts (this picture under this label and these settings
makes these bytes), so it can't disagree with the LMDB in a way that harms: it is believed as it
stands only for the transaction that it names, and else each record's bytes are hashed and compared.
A transaction's own table, NEXT, is written before it ends, so that one of the two fits after a kill.
A table of an update that has ended also names the file: as long as it is that one, nobody wrote to it.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import lmdb

from recaffe.errors import DataError
from recaffe.files import write_aside
from recaffe.lmdb import read

TABLE, NEXT = "records.txt", "records.next.txt"


class Record(NamedTuple):
    """SHA-256 of the picture's file, label, and SHA-256 of the record's bytes."""

    picture: str
    label: int
    value: str


class UnknownError(Exception):
    """Nothing usable is known of the LMDB, and why."""


class Table:
    """Keys and records of a table's file, in key order, read anew each time: a job holds few of them.

    Raises `UnknownError` if it can't be read or is damaged.
    """

    def __init__(self, path: Path) -> None:
        self.path, self._count = path, 0
        body = hashlib.sha256()
        try:
            with path.open("rb") as f:
                header = json.loads(f.readline())
                for row in f:
                    body.update(row)
                    self._count += 1
            self.recipe, self.transaction = header["recipe"], header["transaction"]
            if header["sha256"] != body.hexdigest():
                raise UnknownError(f"{path} is damaged")
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UnknownError(f"{path} can't be read") from error

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[tuple[str, Record]]:
        with self.path.open("rb") as f:
            f.readline()
            for row in f:
                picture, value, label, key = row[:-1].decode().split(" ", 3)
                yield key, Record(picture, int(label), value)


Known = Table | list[tuple[str, Record | None]]


@contextmanager
def opened(store: Path) -> Iterator[lmdb.Environment]:
    """The LMDB `store`, open for all that is asked of it: whoever opens it checks its pages.

    Raises `UnknownError` if it is missing or damaged, also where that shows in the block.
    """
    if not (store / "data.mdb").exists():
        raise UnknownError("there is none yet")
    try:
        with read.open_lmdb(store) as env:
            yield env
    except DataError as error:
        raise UnknownError(f"it is damaged ({error})") from error


def known(store: Path, env: lmdb.Environment, recipe: Mapping[str, Any]) -> Known:
    """Each key in the LMDB `store` with its record, in order; None where its bytes are of unknown origin.

    `recipe` is all that a record's bytes follow from besides picture and label. Raises
    `UnknownError` if the table is missing, damaged, or of another recipe.
    """
    facts: dict[str, set[Record]] = {}
    now = env.info()["last_txnid"], env.stat()["entries"]
    # NEXT first: of two that name the same transaction, it is the newer.
    tables = [Table(store / name) for name in (NEXT, TABLE) if (store / name).exists()]
    if not tables:
        raise UnknownError(f"{store / TABLE} is missing")
    for table in tables:
        if table.recipe != recipe:
            raise UnknownError("its settings or the versions that decode pictures changed")
        if now == (table.transaction, len(table)):
            return table
        for key, record in table:
            facts.setdefault(key, set()).add(record)
    return [
        (key, next((r for r in facts.get(key, ()) if r.value == value), None))
        for key, value in read.digests(store)
    ]


def settle(store: Path, recipe: Mapping[str, Any], found: Known) -> Known:
    """Keep what `known` found after a kill as the one table, before another transaction ends.

    A later one may have the number that the killed one's table names: an update can begin with
    an empty transaction. Returns what was found, for where its file has gone.
    """
    if not (store / NEXT).exists():
        return found
    write(store / TABLE, recipe, ((k, r) for k, r in found if r), transaction_of(store))
    (store / NEXT).unlink()
    return Table(store / TABLE) if isinstance(found, Table) else found


def transaction_of(store: Path) -> int:
    """The number of the LMDB's last transaction."""
    with read.open_lmdb(store) as env:
        return int(env.info()["last_txnid"])


def content(store: Path) -> str | None:
    """The `read.Digest` of the LMDB, if its file is as the last update left it; else None.

    That is the same file, of the same size and time of change: a copy is another one, and so is a file
    that anything wrote to. What a disk loses by itself doesn't show.
    """
    with suppress(OSError, ValueError, KeyError, TypeError):
        with (store / TABLE).open("rb") as f:
            header = json.loads(f.readline())
        if not (store / NEXT).exists() and header["file"] == identity(store):
            return str(header["content"])
    return None


def identity(store: Path) -> list[int]:
    """What tells the LMDB's file from itself after a change."""
    found = (store / "data.mdb").stat()
    return [found.st_ino, found.st_size, found.st_mtime_ns]


def promote(store: Path) -> str:
    """Make NEXT, which was read and found whole, the table of an LMDB that holds just what it says.

    Returns the `read.Digest` of it.
    """
    about = {"transaction": transaction_of(store), "file": identity(store)}
    with (store / NEXT).open("rb") as rows, write_aside(store / TABLE) as aside:
        header = json.loads(rows.readline()) | about
        with aside.open("wb") as f:
            f.write(_line(header))
            shutil.copyfileobj(rows, f)
    return str(header["content"])


def write(
    path: Path,
    recipe: Mapping[str, Any],
    table: Iterable[tuple[str, Record]],
    transaction: int,
    file: Sequence[int] | None = None,
) -> str:
    """Write the table of what the LMDB holds after a transaction, row by row, in key order.

    `file` is the `identity` of an LMDB that holds just that. Returns the `read.Digest` of it.
    """
    body, digest = hashlib.sha256(), read.Digest()

    def header() -> bytes:
        about = {"recipe": recipe, "transaction": transaction, "file": file}
        sums = {"content": digest.hex(), "sha256": body.hexdigest()}
        return _line({**about, **sums})

    with write_aside(path) as aside, aside.open("wb") as f:
        f.write(header())
        for key, r in table:
            row = f"{r.picture} {r.value} {r.label} {key}\n".encode()
            f.write(row)
            body.update(row)
            digest.add(key, r.value)
        f.seek(0)
        f.write(header())  # as long as it was
    return digest.hex()


def _line(header: Mapping[str, Any]) -> bytes:
    return json.dumps(header, sort_keys=True).encode() + b"\n"
