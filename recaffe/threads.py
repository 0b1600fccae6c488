"""Work on large arrays and buffers that Python's lock doesn't hold up, shared out among threads."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import islice
from typing import Protocol, TypeVar

T = TypeVar("T")
R = TypeVar("R")

# More than that, and a disk or the memory is what they wait for.
_MOST = 4
# Items at a time: what one thread waits for the others is then little.
_BATCH = 64


def count() -> int:
    """How many threads there will be: the cores that this process may use, four at most."""
    return min(_MOST, len(os.sched_getaffinity(0)))


def in_batches(items: Iterable[T]) -> Iterator[list[T]]:
    """The items in lists of some dozens."""
    source = iter(items)
    while batch := list(islice(source, _BATCH)):
        yield batch


class ShareOut(Protocol):
    """What `shared_out` gives."""

    def __call__(self, work: Callable[[Sequence[T]], R], items: Sequence[T], /) -> list[R]:
        """What `work` makes of neighbouring parts of the items, in order."""


@contextmanager
def shared_out() -> Iterator[ShareOut]:
    """Gives share_out(work, items): what `work` makes of neighbouring parts of the items, in order."""
    threads = count()
    with ThreadPoolExecutor(threads) as pool:

        def share_out(work: Callable[[Sequence[T]], R], items: Sequence[T]) -> list[R]:
            size = -(-len(items) // threads)
            parts = [items[i : i + size] for i in range(0, len(items), size)]
            return list(pool.map(work, parts)) if len(parts) > 1 else [work(p) for p in parts]

        yield share_out
