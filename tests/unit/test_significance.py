"""Whether runs differ by more than chance: against values by hand."""

from __future__ import annotations

from math import comb

import pytest

from recaffe.evaluate import significance
from recaffe.evaluate.answers import Answer


def answers(right: str, prefix: str = "") -> list[Answer]:
    """A run that has the pictures marked by 1 right and the others wrong."""
    return [
        Answer(f"{prefix}{i}.png", 0, 1 - int(mark), int(mark), 0.9, 0.1, 0.9 if mark == "1" else 0.1)
        for i, mark in enumerate(right)
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("first", "second", "p"),
    [
        (0, 0, 1.0),
        (5, 5, 1.0),
        (1, 9, 22 / 1024),
        (9, 1, 22 / 1024),
        (0, 6, 2 / 64),
        (12, 3, 2 * sum(comb(15, k) for k in range(4)) / 2**15),
    ],
)
def test_mcnemar_is_a_toss_of_a_coin_for_each_picture_that_one_has_right(
    first: int, second: int, p: float
) -> None:
    assert significance.mcnemar(first, second) == pytest.approx(p, rel=1e-12)


def test_holm_corrects_by_rank_and_never_turns_the_order() -> None:
    assert significance.holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert significance.holm([0.9, 0.8]) == [1.0, 1.0]
    assert significance.holm([0.02]) == [0.02]
    assert significance.holm([]) == []


def test_runs_are_compared_picture_by_picture() -> None:
    runs = {"a": answers("1111111100"), "b": answers("1100000001"), "c": answers("1111111100")}
    found = {(pair.first, pair.second): pair for pair in significance.compare(runs)}
    assert list(found) == [("a", "b"), ("a", "c"), ("b", "c")]
    pair = found["a", "b"]
    assert (pair.both, pair.only_first, pair.only_second, pair.neither) == (2, 6, 1, 1)
    assert (pair.n, pair.better) == (10, "a")
    assert found["b", "c"].better == "c"
    assert pair.p == pytest.approx(2 * 8 / 2**7)
    assert pair.corrected == pytest.approx(3 * pair.p)
    assert (found["a", "c"].p, found["a", "c"].differ) == (1.0, False)


def test_the_order_of_the_pictures_does_not_matter_and_other_pictures_are_not_compared() -> None:
    runs = {"a": answers("10" * 20), "b": answers("0" * 40)[::-1], "c": answers("1" * 40, "other")}
    (pair,) = significance.compare(runs)
    assert (pair.first, pair.second, pair.only_first) == ("a", "b", 20)
    assert pair.differ


def test_many_runs_are_compared_with_the_first_only() -> None:
    runs = {f"run{i}": answers("10") for i in range(significance.ALL_PAIRS + 1)}
    assert [pair.first for pair in significance.compare(runs)] == ["run0"] * significance.ALL_PAIRS
    assert significance.compare({"one": answers("10")}) == []
