"""Groups of pictures that show the same thing: equal pixels, or nearly equal to the eye."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

# Mean difference of two 4×4 BGR thumbnails (0-255) under which hashes are believed: different
# plain surfaces have equal hashes. Two exposures of one scene differ by about 10.
THUMB_DISTANCE = 16
_POPCOUNT = np.array([bin(i).count("1") for i in range(256)], np.uint16)


@dataclass(frozen=True)
class Group:
    """Indices of two or more twins, in ascending order; `exact` if all have equal pixels."""

    members: tuple[int, ...]
    exact: bool


def find(rows: Sequence[dict[str, str]], bits: int) -> list[Group]:
    """Groups of twins among manifest rows, transitively joined, disjoint.

    Rows with equal `pixels` are exact twins; rows whose `phash` differs in at most `bits` bits (at
    most 15 of 256) are near twins. `bits` below 0 finds exact twins only.
    """
    first: dict[str, int] = {}
    parent = list(range(len(rows)))
    for i, row in enumerate(rows):
        parent[i] = first.setdefault(row["pixels"], i)
    if bits >= 0:
        unique = sorted(first.values())
        for a, b in _near_pairs([rows[i] for i in unique], bits):
            _union(parent, unique[a], unique[b])
    groups: dict[int, list[int]] = defaultdict(list)
    for i in range(len(rows)):
        groups[_root(parent, i)].append(i)
    return [
        Group(tuple(g), len({rows[i]["pixels"] for i in g}) == 1)
        for g in groups.values()
        if len(g) > 1
    ]


def _near_pairs(rows: Sequence[dict[str, str]], bits: int) -> Iterator[tuple[int, int]]:
    """Index pairs within `bits` bits: by the pigeonhole, one of 16 bands must be equal."""
    if not rows:
        return
    hashes = np.array([np.frombuffer(bytes.fromhex(r["phash"]), np.uint8) for r in rows])
    thumbs = np.array([np.frombuffer(bytes.fromhex(r["thumb"]), np.uint8) for r in rows], np.int16)
    for band in range(16):
        keys = hashes[:, 2 * band].astype(np.uint32) << 8 | hashes[:, 2 * band + 1]
        order = np.argsort(keys, kind="stable")
        starts = np.flatnonzero(np.diff(keys[order], prepend=-1))
        for bucket in np.split(order, starts[1:]):
            for n, i in enumerate(bucket[:-1]):
                others = bucket[n + 1 :]
                far = _POPCOUNT[hashes[others] ^ hashes[i]].sum(1)
                for j in others[far <= bits]:
                    if np.abs(thumbs[i] - thumbs[j]).mean() <= THUMB_DISTANCE:
                        yield int(i), int(j)


def _root(parent: list[int], i: int) -> int:
    while parent[i] != i:
        parent[i] = parent[parent[i]]
        i = parent[i]
    return i


def _union(parent: list[int], a: int, b: int) -> None:
    a, b = _root(parent, a), _root(parent, b)
    parent[max(a, b)] = min(a, b)
