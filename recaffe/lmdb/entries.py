"""A list's records and what is known of their pictures, in columns: 76 bytes and its path for each.

As objects they would take six times that, and a job holds those of its whole list, which may be a million.
"""

from __future__ import annotations

import os
from array import array
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import NamedTuple, TypeVar, overload

import numpy as np

from recaffe.errors import DataError
from recaffe.images import decoded
from recaffe.images.split import record_key, shard_of

T = TypeVar("T")

_ROW = np.dtype(
    [
        ("start", "i8"), ("end", "i8"),  # of its path in the text of all
        ("label", "i4"), ("copy", "i4"),
        ("picture", "V32"),
        ("file", "i4"), ("offset", "i8"), ("check", "u8"),  # of its place; file -1 where it has none
    ]
)  # fmt: skip
_UNKNOWN = bytes(32)
_BATCH = 4096


class Entry(NamedTuple):
    """One list line with the key of its record, and the SHA-256 of its file where that is known.

    `place` is where the scan has left the record's image, if it has.
    """

    key: str
    path: str
    label: int
    picture: str = ""
    place: decoded.Place | None = None


class Entries(Sequence[Entry]):
    """The entries of a list, or some of them. Each is made when it is asked for.

    `rows` (`_ROW`) says where in `paths`, their paths one after the other, each one's is; `files` are
    those of the places.
    """

    def __init__(self, paths: bytearray, rows: np.ndarray, seed: int, files: list[str]) -> None:
        self._paths, self._rows, self._seed, self._files = paths, rows, seed, files

    def __len__(self) -> int:
        return len(self._rows)

    @overload
    def __getitem__(self, index: int) -> Entry: ...
    @overload
    def __getitem__(self, index: slice) -> list[Entry]: ...
    def __getitem__(self, index: int | slice) -> Entry | list[Entry]:
        if isinstance(index, slice):
            return self._made(self._rows[index])
        return self._made(self._rows[[index]])[0]

    def __iter__(self) -> Iterator[Entry]:
        for start in range(0, len(self), _BATCH):
            yield from self[start : start + _BATCH]

    def _path(self, number: int) -> str:
        return self._some_paths([number])[0]

    def _some_paths(self, numbers: slice | Sequence[int] | np.ndarray) -> list[str]:
        rows = self._rows[numbers]
        ends = zip(rows["start"].tolist(), rows["end"].tolist(), strict=True)
        return [self._paths[start:end].decode() for start, end in ends]

    def _made(self, rows: np.ndarray) -> list[Entry]:
        made = []
        for start, end, label, copy, picture, file, offset, check in rows.tolist():
            path = self._paths[start:end].decode()
            key = record_key(path, self._seed, copy)
            sha = "" if picture == _UNKNOWN else picture.hex()
            place = decoded.Place(self._files[file], offset, check) if file >= 0 else None
            made.append(Entry(key, path, label, sha, place))
        return made

    def to_decode(self) -> int:
        """How many have no image that the scan has left."""
        return int(np.count_nonzero(self._rows["file"] < 0))

    def select(self, numbers: Sequence[int] | np.ndarray) -> Entries:
        """Those with these numbers, in that order."""
        rows = self._rows[np.asarray(numbers, np.intp)]
        return Entries(self._paths, rows, self._seed, self._files)

    def with_digests(
        self,
        root: str,
        pictures: Iterable[tuple[str, str]],
        places: Iterable[tuple[bytes, decoded.Place]] = (),
    ) -> Entries:
        """The same with the SHA-256 of their files, and with the places of their images.

        `pictures` has the path, root included, and the SHA-256 of each picture's file, `places` such a digest
        and the place; both may have more than are wanted. Raises `DataError` for an entry without a picture.
        """
        rows, files = self._rows.copy(), dict[str, int]()
        digests, found = rows["picture"], rows[["file", "offset", "check"]]
        batches = (slice(start, start + _BATCH) for start in range(0, len(self), _BATCH))
        own = (hash(_normal(root, path)) for batch in batches for path in self._some_paths(batch))
        hashes = np.fromiter(own, np.int64, len(self))
        known = ((_normal("", file), sha) for file, sha in pictures)
        for numbers, these in _joined(hashes, ((hash(p[0]), p) for p in known)):
            for i, path, (file, sha) in zip(
                numbers.tolist(), self._some_paths(numbers), these, strict=True
            ):
                if file == _normal(root, path):
                    digests[i] = bytes.fromhex(sha)
        unknown = np.flatnonzero(digests == np.void(_UNKNOWN))
        if unknown.size:
            raise DataError(
                f"{Path(root) / self._path(unknown[0])} stands in a list but not in the manifest. "
                "Remove manifest.csv and run the same command again."
            )
        heads = digests.copy().view(">i8")[:: len(_UNKNOWN) // 8].astype(np.int64)
        for numbers, those in _joined(heads, ((_head(p[0]), p) for p in places)):
            for i, (digest, place) in zip(numbers.tolist(), those, strict=True):
                if digests[i].tobytes() == digest:
                    found[i] = (files.setdefault(place.file, len(files)), place.offset, place.check)
        return Entries(self._paths, rows, self._seed, list(files))


def read_list(path: Path | str, seed: int, shard: tuple[int, int] = (0, 1)) -> Entries:
    """A list file that recaffe wrote, in the order of the records' keys.

    `shard` (index, number of shards) takes only the records of that shard.
    """
    index, shards = shard
    repeated, seen = _repeated(path), Counter[str]()
    paths = bytearray()
    ends, labels, copies, hashes = (array("q") for _ in range(4))
    for name, label in _lines(path):
        copy = 0
        if hash(name) in repeated:
            copy, seen[name] = seen[name], seen[name] + 1
        key = record_key(name, seed, copy)
        if shards > 1 and shard_of(key, shards) != index:
            continue
        paths += name.encode()
        ends.append(len(paths))
        labels.append(label)
        copies.append(copy)
        hashes.append(int(key[:8], 16))
    rows = np.zeros(len(ends), _ROW)
    rows["end"], rows["label"], rows["copy"], rows["file"] = ends, labels, copies, -1
    rows["start"][1:] = rows["end"][:-1]
    return _sorted(Entries(paths, rows, seed, []), np.array(hashes, np.int64))


def _lines(path: Path | str) -> Iterator[tuple[str, int]]:
    """Path and label of each line; raises `DataError`."""
    try:
        with Path(path).open(encoding="utf-8") as lines:
            for number, ended in enumerate(lines, 1):
                if not (line := ended.removesuffix("\n")):
                    continue
                name, _, label = line.rpartition(" ")
                if not name or not (label.isascii() and label.isdigit() and len(label) < 10):
                    raise DataError(f"{path}, line {number}: {line!r} is not `path label`.")
                yield name, int(label)
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8 ({error}). Remove it and run again.") from error


def _repeated(path: Path | str) -> set[int]:
    """Hashes of the names that a list has more than once (oversampled pictures), and of hardly any other."""
    hashes = np.fromiter((hash(name) for name, _ in _lines(path)), np.int64)
    hashes.sort()
    return set(hashes[1:][hashes[1:] == hashes[:-1]].tolist())


def _sorted(entries: Entries, hashes: np.ndarray) -> Entries:
    """In the order of their keys, which begin with these hashes."""
    order = np.argsort(hashes, kind="stable")
    hashes = hashes[order]
    for same in np.unique(hashes[1:][hashes[1:] == hashes[:-1]]):
        run = slice(*np.searchsorted(hashes, (same, same + 1)))
        order[run] = sorted(order[run].tolist(), key=lambda i: entries[i].key)
    return entries.select(order)


def _joined(
    own: np.ndarray, items: Iterable[tuple[int, T]]
) -> Iterator[tuple[np.ndarray, list[T]]]:
    """Places in `own`, int64, of some items' numbers, wherever it has them, and the item of each place."""
    order = np.argsort(own)
    ranks, source = own[order], iter(items)
    while batch := list(islice(source, _BATCH)):
        numbers = np.array([number for number, _ in batch], np.int64)
        first, last = (np.searchsorted(ranks, numbers, side) for side in ("left", "right"))
        which = np.repeat(np.arange(len(batch)), last - first)
        # The first place of an item's, and so many on.
        further = np.arange(len(which)) - np.searchsorted(which, which)
        yield order[first[which] + further], [batch[i][1] for i in which.tolist()]


def _normal(root: str, path: str) -> str:
    """`os.path.normpath` of both, which nearly all are as they stand: a third of a list's work, if it is asked for each."""
    joined = f"{root}/{path}" if root and not path.startswith("/") else path
    if (
        not joined
        or "//" in joined
        or "/." in joined
        or joined.startswith(".")
        or joined.endswith("/")
    ):
        return os.path.normpath(os.path.join(root, path))  # noqa: PTH118 - str in, str out, 10 times faster than Path
    return joined


def _head(digest: bytes) -> int:
    return int.from_bytes(digest[:8], "big", signed=True)
