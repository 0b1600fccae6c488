"""Work done a few steps ahead, in threads."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")


def ahead(tasks: Iterator[Callable[[], T]], depth: int, threads: int) -> Generator[T, None, None]:
    """Results of the tasks in their order, `depth` of them under way; errors come up in their place.

    `tasks` is advanced by the caller's thread alone, and no task runs any more once this is closed.
    """
    pending: deque[Future[T]] = deque()
    pool = ThreadPoolExecutor(threads, thread_name_prefix="prefetch")
    try:
        for task in tasks:
            pending.append(pool.submit(task))
            if len(pending) > depth:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)
