"""Caffe's log becomes the events that it tells of, whatever else speaks in between.

caffe_train.log was written by real Caffe (the solver of tests/training.py with multistep and
test_compute_loss); lines of net.cpp and the nets' text are left out.
"""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from recaffe.engines.base import Output, Snapshot, Step, Test
from recaffe.engines.caffe.log import Parser

LINES = (Path(__file__).parent / "caffe_train.log").read_text(encoding="utf-8").splitlines()
BATCH = 8
START = "I1125 10:00:00.000000  7 solver.cpp:290] Learning Rate Policy: fixed"


def events(lines: list[str], start: int = 0) -> tuple[Parser, list[Step | Test | Snapshot]]:
    parser = Parser(start, BATCH, "accuracy", "loss")
    found = [event for line in lines for event in parser.feed(line)]
    return parser, [*found, *parser.finish()]


def test_a_recorded_training_has_its_steps_tests_and_snapshots_in_order() -> None:
    parser, found = events(LINES)
    assert [(type(e), e.iteration) for e in found] == [
        (Test, 0), (Step, 0), (Step, 4), (Snapshot, 8), (Test, 8), (Step, 8), (Step, 12),
        (Snapshot, 16), (Test, 16),
    ]  # fmt: skip
    assert (parser.started, parser.stopped, parser.done) == (True, False, True)
    assert parser.iteration == 16


def test_a_step_has_what_caffe_shows_of_it() -> None:
    _, found = events(LINES)
    step = next(e for e in found if isinstance(e, Step) and e.iteration == 8)
    assert (step.loss, step.lr, step.steps) == (0.686771, 0.005, 4)
    assert step.outputs == (
        Output("aux_loss", 0.481584, 0.3), Output("loss", 0.306992, 1.0),
    )  # fmt: skip
    # 4 iterations of 8 from 10:28:36.963904 on, less the test from .971473 to .971730.
    assert step.lapse == pytest.approx(0.978938 - 0.963904 - (0.971730 - 0.971473), abs=1e-6)
    assert step.images_per_second == pytest.approx(4 * BATCH / step.lapse)


def test_a_test_is_judged_by_the_named_outputs() -> None:
    _, found = events(LINES)
    test = next(e for e in found if isinstance(e, Test) and e.iteration == 8)
    assert (test.accuracy, test.loss, test.total, test.net) == (1, 0.0925348, 0.255275, 0)
    assert [o.name for o in test.outputs] == ["accuracy", "aux_loss", "loss"]


def test_a_snapshot_is_told_when_caffe_goes_on() -> None:
    state = next(i for i, line in enumerate(LINES) if "solver state" in line)
    parser, _ = Parser(0, BATCH), None
    told = [e for line in LINES[: state + 1] for e in parser.feed(line)]
    assert not any(isinstance(e, Snapshot) for e in told)
    written = Snapshot(8, Path("/runs/a/snap_iter_8.caffemodel"), Path("/runs/a/snap_iter_8.solverstate"))  # fmt: skip
    assert parser.writing == written
    assert list(parser.feed("I20261125 04:28:36.9 27075 data_layer.cpp:73] Restarting")) == []
    assert list(parser.feed(LINES[state + 1])) == [written]
    assert parser.writing is None


def test_a_test_that_is_broken_off_is_none() -> None:
    at = next(i for i, line in enumerate(LINES) if "Iteration 8, Testing" in line)
    prefix = LINES[at].split("] ")[0] + "] "
    parser, found = events(
        [*LINES[: at + 1], f"{prefix}Test interrupted.", f"{prefix}Optimization stopped early.",
         f"{prefix}Optimization Done."]
    )  # fmt: skip
    assert [e.iteration for e in found if isinstance(e, Test)] == [0]
    assert (parser.stopped, parser.done) == (True, False)


@pytest.mark.parametrize("value", ["nan", "-nan", "inf", "-inf"])
def test_losses_that_are_no_numbers_are_read(value: str) -> None:
    _, found = events(
        [START,
         f"I1125 10:00:01.000000  7 solver.cpp:239] Iteration 4 (4 iter/s, 1s/4 iters), loss = {value}",
         f"I1125 10:00:01.000000  7 solver.cpp:258]     Train net output #0: loss = {value} (* 1 = {value} loss)",
         "I1125 10:00:01.000000  7 sgd_solver.cpp:112] Iteration 4, lr = 1e-05"]
    )  # fmt: skip
    (step,) = found
    assert isinstance(step, Step)
    assert not math.isfinite(step.loss)
    assert len(step.outputs) == 1
    assert step.lr == 1e-5


def test_midnight_and_the_prefix_without_a_year_are_read() -> None:
    _, found = events(
        [START.replace("10:00:00", "23:59:59"),
         "I1126 00:00:01.000000  7 solver.cpp:239] Iteration 19 (10 iter/s, 2s/20 iters), loss = 1",
         "I1126 00:00:01.000000  7 sgd_solver.cpp:50] MultiStep Status: Iteration 19, step = 2",
         "I1126 00:00:01.000000  7 sgd_solver.cpp:112] Iteration 19, lr = 0.1"]
    )  # fmt: skip
    (step,) = found
    assert isinstance(step, Step)
    assert step.lapse == 2
    assert step.images_per_second == 20 * BATCH / 2
    assert step.status == "MultiStep Status: Iteration 19, step = 2"


def test_steps_after_a_resume_count_from_there() -> None:
    _, found = events(
        [START,
         "I1125 10:00:02.000000  7 solver.cpp:239] Iteration 104 (52 iter/s, 2s/4 iters), loss = 1",
         "I1125 10:00:02.000000  7 sgd_solver.cpp:112] Iteration 104, lr = 0.1"], start=101
    )  # fmt: skip
    assert isinstance(found[0], Step)
    assert found[0].steps == 4
