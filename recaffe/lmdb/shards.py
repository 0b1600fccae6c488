"""An LMDB that several machines wrote, a range of keys each: joined without a copy, or merged.

The shards follow one upon the other in key order. So whoever reads them in order sees the records of
one LMDB, in its order and with its digest, whatever the number of shards.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import lmdb

from recaffe.errors import DataError
from recaffe.files import write_aside
from recaffe.lmdb import read, records
from recaffe.lmdb.update import link
from recaffe.lmdb.write import BYTES_A_COMMIT, cant_write
from recaffe.progress import progress


def name(split: str, index: int | str, count: int) -> str:
    """What the files of a shard are named after."""
    return f"{split}_{index}of{count}"


def discard(folder: Path, split: str, count: int) -> None:
    """Remove the files of a split's shards of another number, before theirs are written anew."""
    keep = {name(split, i, count) for i in range(count)} if count > 1 else {split}
    for path in folder.iterdir() if folder.is_dir() else ():
        stem = path.name.partition(".")[0].removesuffix("_lmdb")
        if (stem == split or stem.startswith(f"{split}_")) and stem not in keep:
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)


def write_digests(store: Path, path: Path) -> None:
    """Write down the SHA-256 of each record of a store that was just updated, for `join`."""
    with write_aside(path) as aside, aside.open("w", encoding="utf-8", newline="") as f:
        f.writelines(f"{r.value} {key}\n" for key, r in records.Table(store / records.TABLE))


def join(parts: Sequence[Path], digests: Sequence[Path], out: Path) -> dict[str, Any]:
    """Make `out` a folder of the shards `parts`, in order; returns `read.describe`'s note of it all.

    `digests` are files of `write_digests`. The shards' files get another name, no copy.
    """
    with write_aside(out) as aside:
        aside.mkdir()
        for index, part in enumerate(parts):
            folder = aside / f"{index:03d}"
            folder.mkdir()
            link((part / "data.mdb").resolve(), folder / "data.mdb", out / folder.name)
        return _note(aside, digests, out)


def merge(parts: Sequence[Path], digests: Sequence[Path], out: Path) -> dict[str, Any]:
    """Make `out` one LMDB of all records of `parts`, for Caffe; returns `read.describe`'s note."""
    size = 2 * sum((p / "data.mdb").stat().st_size for p in parts) + (1 << 20)
    with write_aside(out) as aside:
        aside.mkdir()
        try:
            with lmdb.open(
                str(aside), map_size=size, sync=False, metasync=False, lock=False
            ) as env:
                _append(env, parts, out)
                env.sync(True)
        except lmdb.Error as error:
            raise cant_write(out, error) from error
        return _note(aside, digests, out)


def _append(env: lmdb.Environment, parts: Sequence[Path], out: Path) -> None:
    pairs = progress(_records(parts), sum(map(read.count, parts)), f"merge {out.name}", "img")
    more = True
    while more:
        room = BYTES_A_COMMIT
        with env.begin(write=True) as txn:
            for key, value in pairs:
                txn.put(key, value, append=True)
                room -= len(value)
                if room <= 0:
                    break
            else:
                more = False


def _records(parts: Sequence[Path]) -> Iterator[tuple[memoryview, memoryview]]:
    for part in parts:
        with read.open_records(part) as found:
            yield from found


def _read_digests(files: Sequence[Path]) -> Iterator[tuple[str, str]]:
    for file in files:
        with file.open(encoding="utf-8") as lines:
            for line in lines:
                value, _, key = line.removesuffix("\n").partition(" ")
                yield key, value


def _note(made: Path, digests: Sequence[Path], out: Path) -> dict[str, Any]:
    count = sum(1 for _ in _read_digests(digests))
    if (there := read.count(made)) != count:
        raise DataError(
            f"The shards of {out} hold {there} records and were noted with {count}. Remove the folder "
            f"{out.parent / 'shards'} and run the same command again."
        )
    return read.describe(made, _read_digests(digests))
