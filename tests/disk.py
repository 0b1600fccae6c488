"""How much disk an LMDB takes while it is updated."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from tests.lists import Lists


def occupied(lists: Lists) -> int:
    """Bytes of disk that LMDBs take, published or not, finished or not; aside their tables and sums."""
    seen = {}
    for file in (*lists.store.rglob("*"), *lists.out.rglob("*")):
        stat = file.stat()
        if not file.is_dir() and not any(x in file.name for x in ("records", "total")):
            seen[stat.st_ino] = stat.st_blocks * 512
    return sum(seen.values())


def watched(lists: Lists, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Disk in use around each call that gives some of it up or takes more."""
    seen: list[int] = []

    def look(do: Callable[..., Any], *args: Any, **more: Any) -> Any:
        seen.append(occupied(lists))
        done = do(*args, **more)
        seen.append(occupied(lists))
        return done

    for name in ("truncate", "replace", "posix_fallocate", "unlink", "link"):
        monkeypatch.setattr(os, name, partial(look, getattr(os, name)))
    return seen
