"""What there is in a set of pictures: all are listed, and all or a sample of them decoded.

The list is the inventory's, and pictures are looked at as the scan does it.
"""

from __future__ import annotations

import hashlib
import math
import os
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import cv2
import numpy as np

from recaffe.images import inventory, scan
from recaffe.images.decode import RejectError, decode, read
from recaffe.images.inventory import Item
from recaffe.pool import ordered_map, worker_pool
from recaffe.progress import progress

Row = dict[str, Any]


@dataclass(frozen=True)
class Survey:
    """All pictures by class, in bytes together, and what was seen in those that were decoded.

    `rows` are of usable pictures, as in the scan's manifest, with `grey` added; `bad` are the others
    with the scan's reason.
    """

    items: list[Item]
    labels: list[str]
    counts: Counter[str]
    bytes: int
    rows: list[Row]
    bad: list[tuple[Item, str]]

    @property
    def looked(self) -> int:
        """How many pictures were decoded, or could not be."""
        return len(self.rows) + len(self.bad)

    @property
    def complete(self) -> bool:
        """Whether that is all of them."""
        return self.looked == len(self.items)

    @property
    def smallest(self) -> int:
        """Pictures of the smallest class."""
        return min(self.counts.values())

    @property
    def largest(self) -> int:
        """Pictures of the largest class."""
        return max(self.counts.values())

    @property
    def given(self) -> set[str]:
        """Splits that the pictures bring with them."""
        return {item.split for item in self.items} - {""}

    def numbers(self, key: str) -> np.ndarray:
        """A column of `rows`: width, height."""
        return np.array([row[key] for row in self.rows], float)


def take(images: dict[str, Any], settings: dict[str, Any], most: int, threads: int) -> Survey:
    """List the pictures of the config's `images`, and decode `most` of them (0: all).

    `settings` are the config's `scan`. Raises `DataError` for what the inventory refuses.
    """
    items, labels = inventory.list_pictures(images)
    chosen = sample(items, most)
    rows, bad = [], []
    with worker_pool(threads if len(chosen) > 50 else 1) as pool:
        looks = ordered_map(pool, partial(_look, settings=settings), chosen)
        shown = progress(looks, len(chosen), "looking", "img") if len(chosen) > 200 else looks
        for item, seen in zip(chosen, shown, strict=True):
            if isinstance(seen, str):
                bad.append((item, seen))
            else:
                rows.append(seen)
    size = sum(_size(item) for item in items)
    return Survey(items, labels, Counter(i.label for i in items), size, rows, bad)


def sample(items: Sequence[Item], most: int) -> list[Item]:
    """`most` of the pictures, the same each time: each class's share, but at least two of it."""
    if not 0 < most < len(items):
        return list(items)
    by_class: dict[str, list[Item]] = defaultdict(list)
    for item in items:
        by_class[item.label].append(item)
    chosen: list[Item] = []
    for own in by_class.values():
        count = max(2, math.ceil(len(own) * most / len(items)))
        chosen += sorted(own, key=lambda i: hashlib.sha1(os.fsencode(i.path)).digest())[:count]
    return chosen


def _look(item: Item, settings: dict[str, Any]) -> Row | str:
    if said := scan.name_problem(item.path):
        return said
    try:
        picture = decode(read(item.file), settings["background"], settings["max_pixels"])
    except RejectError as error:
        return str(error)
    blue, green, red = cv2.split(picture.bgr)
    grey = np.array_equal(blue, green) and np.array_equal(green, red)
    about = {"path": item.path, "label": item.label, "split": item.split, "grey": grey}
    return about | scan.describe(picture)


def _size(item: Item) -> int:
    try:
        return os.stat(item.file).st_size
    except (OSError, ValueError):
        return 0
