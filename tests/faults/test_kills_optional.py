"""Kills of rules that run only where the config asks for what they make."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.faults.started import OPTIONAL, SIGNALS, disturb, leftovers
from tests.workflow.faults.small import Small, digest

SECONDS = 2.0  # that these rules take, imports included


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, begun: Small) -> dict[str, Small]:
    """For each of the rules a finished workflow that has it."""
    whole = begun.copy(tmp_path_factory.mktemp("whole") / "copy")
    whole.change(train={"lr_range": True}, report={"heat_maps": 2}, model={"onnx": True})
    folds = begun.copy(tmp_path_factory.mktemp("folds") / "copy")
    folds.change(train={"epochs": 2}, split={"folds": 2})
    for small in (whole, folds):
        small.run(cores=2)
    return {rule: folds if rule == "folds" else whole for rule in OPTIONAL}


@pytest.mark.parametrize(("number", "rule"), list(enumerate([*OPTIONAL, *OPTIONAL])))
def test_after_a_kill_what_was_asked_for_is_there_with_the_same_bytes(
    number: int, rule: str, finished: dict[str, Small], tmp_path: Path
) -> None:
    right = finished[rule]

    def prepare(attempt: int) -> Small:
        small = right.copy(tmp_path / f"try{attempt}")
        # What is missing is made where something that needs it is to be made.
        for name in (*OPTIONAL[rule].files, "report.html"):
            (small.results / name).unlink()
        return small

    delay = random.Random(number).uniform(0, SECONDS)
    kind = 2 * number % len(SIGNALS)
    small, _ = disturb(prepare, OPTIONAL[rule].script, kind, delay)
    for name in OPTIONAL[rule].files:
        assert digest(small.results / name) == digest(right.results / name), name
    assert not leftovers(small)
    assert not small.plan()
