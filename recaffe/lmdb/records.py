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
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

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


def known(store: Path, recipe: Mapping[str, Any]) -> dict[str, Record | None]:
    """Each key in the LMDB `store` with its record; None where its bytes are of unknown origin.

    `recipe` is all that a record's bytes follow from besides picture and label. Raises
    `UnknownError` if the table or the LMDB is missing, damaged, or made by another recipe.
    """
    if not (store / "data.mdb").exists():
        raise UnknownError("there is none yet")
    facts: dict[str, set[Record]] = {}
    try:
        with read.open_lmdb(store) as env:
            now = env.info()["last_txnid"], env.stat()["entries"]
        # NEXT first: of two that name the same transaction, it is the newer.
        tables = [_read(store / name) for name in (NEXT, TABLE) if (store / name).exists()]
        if not tables:
            raise UnknownError(f"{store / TABLE} is missing")
        for header, table in tables:
            if header["recipe"] != recipe:
                raise UnknownError("its settings or the versions that decode pictures changed")
            if now == (header["transaction"], len(table)):
                return dict(table)
            for key, record in table.items():
                facts.setdefault(key, set()).add(record)
        found = dict(read.digests(store))
    except DataError as error:
        raise UnknownError(f"it is damaged ({error})") from error
    return {
        key: next((r for r in facts.get(key, ()) if r.value == value), None)
        for key, value in found.items()
    }


def settle(store: Path, recipe: Mapping[str, Any], table: Mapping[str, Record | None]) -> None:
    """Keep what `known` found after a kill as the one table, before another transaction ends.

    A later one may have the number that the killed one's table names: an update can begin with
    an empty transaction.
    """
    if (store / NEXT).exists():
        rows = ((k, r) for k, r in table.items() if r)
        write(store / TABLE, recipe, rows, transaction_of(store))
        (store / NEXT).unlink()


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


def read_table(store: Path) -> dict[str, Record]:
    """The table of a store that was just brought up to date, in key order."""
    return _read(store / TABLE)[1]


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
        return json.dumps({**about, **sums}, sort_keys=True).encode() + b"\n"

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


def _read(path: Path) -> tuple[dict[str, Any], dict[str, Record]]:
    try:
        first, _, body = path.read_bytes().partition(b"\n")
        header = json.loads(first)
        if header["sha256"] != hashlib.sha256(body).hexdigest():
            raise UnknownError(f"{path} is damaged")
        header = {key: header[key] for key in ("recipe", "transaction")}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UnknownError(f"{path} can't be read") from error
    table = {}
    for line in body.decode().split("\n")[:-1]:
        picture, value, label, key = line.split(" ", 3)
        table[key] = Record(picture, int(label), value)
    return header, table
