"""What jobs ask of a cluster."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from recaffe import needs


def test_pictures_are_the_rows_of_the_inventory_as_it_is_now(tmp_path: Path) -> None:
    table = tmp_path / "inventory.csv"
    assert needs.pictures(table) == 0
    table.write_text("root,path\na,b\nc,d\n")
    assert needs.pictures(table) == 2
    table.write_text("root,path\na,b\n")
    os.utime(table, ns=(1, 1))
    assert needs.pictures(table) == 1


def test_memory_grows_with_the_pictures_and_with_each_attempt_but_not_without_end() -> None:
    assert needs.memory(1000, 1, count=2_000_000, kilobytes=3) == 7000
    assert [needs.memory(1000, attempt) for attempt in (1, 2, 3, 4, 5, 9)] == [
        1000, 1500, 2000, 2500, 3000, 3000,
    ]  # fmt: skip


def test_minutes_grow_likewise_and_end_at_a_day() -> None:
    assert needs.minutes(10, 1, count=600, seconds=0.5) == 15
    assert needs.minutes(10, 2, count=600, seconds=0.5) == 30
    assert needs.minutes(10, 1, count=10**9, seconds=0.5) == needs.DAY


@pytest.mark.parametrize(("count", "threads"), [(0, 2), (600, 2), (1000, 4), (10**6, 8)])
def test_few_pictures_get_few_threads(count: int, threads: int) -> None:
    assert needs.threads(count) == threads
