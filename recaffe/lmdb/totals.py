"""The sum of an LMDB's records, kept beside it by the job that writes them: the mean then reads none.

It follows each update by the records that come and go, and is believed for the content alone that it
names. Where it isn't there, or is of another content, the records are read.
"""

from __future__ import annotations

import json
import zipfile
from contextlib import suppress
from pathlib import Path

from recaffe import mean
from recaffe.errors import DataError, MachineError
from recaffe.lmdb import read

NAME = "total.npz"


def keep(store: Path, total: mean.Sums | None, content: str) -> None:
    """Keep the sum of an LMDB of that `read.Digest`, if the disk has room for it."""
    with suppress(MachineError):
        mean.write_sums(total, store / NAME, content)


def kept(store: Path, content: str) -> mean.Sums | None:
    """The sum that is kept, if it is of that content and of some records."""
    with suppress(OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        total, of = mean.read_sums_of(store / NAME)
        return total if of == content else None
    return None


def total_of(lmdb: Path, store: Path) -> mean.Sums | None:
    """The sum of an LMDB's records as it is kept, or else by reading them.

    All of the LMDB is then checked on the way: raises `DataError` as `read.check`, or as `mean.Adder`.
    """
    with suppress(OSError, ValueError, KeyError, TypeError):
        note = json.loads(Path(f"{lmdb}.json").read_text(encoding="utf-8"))
        if total := kept(store, note["sha256"]):
            return total
    adder = mean.Adder(lmdb)
    try:
        read.check(lmdb, also=adder.add)
    except DataError:
        read.check(lmdb)  # of records that changed, this says so, whatever else is wrong with them
        raise
    return adder.sums()
