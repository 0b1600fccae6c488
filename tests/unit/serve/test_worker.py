"""The worker computes what waits together, and leaves nobody waiting."""

from __future__ import annotations

import errno
import threading
import time
from concurrent.futures import CancelledError

import numpy as np
import pytest
from starlette.types import ASGIApp

from recaffe.errors import DataError
from recaffe.model import folder
from recaffe.model.classifier import Classifier
from recaffe.serve import BusyError
from recaffe.serve.app import build
from recaffe.serve.worker import Worker
from tests.served import FREE, PREDICT, Held, ask, blank, form, png, working


def test_what_waits_is_computed_together(held: Held) -> None:
    with working(held) as worker:
        first = worker.submit(blank(0), heat=False)
        assert held.within.wait(30)
        rest = [worker.submit(blank(i), heat=False) for i in range(1, 8)]
        rest[2].cancel()
        held.go.set()
        assert first.result(30).scores.argmax() == 0
        for i, future in enumerate(rest, 1):
            if future is not rest[2]:
                assert future.result(30).scores.argmax() == i % 3
    assert held.sizes == [1, 1, 3, 3]


def test_an_error_is_told_to_those_whose_batch_it_was(model: folder.Model, held: Held) -> None:
    held.error = DataError("the disk is gone")
    held.go.set()
    with working(held) as worker:
        app = build(model, worker, FREE)
        answer = ask(app, "POST", PREDICT, **form(("a.png", png()), ("b.png", png())))
        assert (answer.status_code, answer.json()) == (503, {"error": "the disk is gone"})
        assert worker.reserved == 0
        held.error = None
        assert ask(app, "POST", PREDICT, **form(("a.png", png()))).status_code == 200


def test_a_defect_is_an_answer_without_a_traceback(
    model: folder.Model, held: Held, capsys: pytest.CaptureFixture[str]
) -> None:
    held.error = KeyError("a defect\x1b[2J")
    held.go.set()
    with working(held) as worker:
        answer = ask(build(model, worker, FREE), "POST", PREDICT, **form(("a.png", png())))
    assert (answer.status_code, list(answer.json())) == (500, ["error"])
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "KeyError" in said
    assert "\x1b" not in said


def test_a_full_disk_is_told(app: ASGIApp, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("tempfile.SpooledTemporaryFile.write", full)
    answer = ask(app, "POST", PREDICT, **form(("a.png", png())))
    assert (answer.status_code, list(answer.json())) == (503, ["error"])
    assert "No space left" in answer.json()["error"]


def test_weights_that_give_no_numbers_are_told(model: folder.Model, held: Held) -> None:
    held.go.set()
    with working(held) as worker:
        held.scores = lambda records: np.full((len(records), 3), np.nan)  # type: ignore[method-assign]
        answer = ask(build(model, worker, FREE), "POST", PREDICT, **form(("a.png", png())))
    assert answer.status_code == 503
    assert "weights" in answer.json()["error"]


def test_a_worker_that_ends_leaves_nobody_waiting(held: Held) -> None:
    with working(held) as worker:
        worker.submit(blank(0), heat=False)
        assert held.within.wait(30)
        waiting = worker.submit(blank(1), heat=False)

        def go_once_it_ends() -> None:
            while not worker._ends:
                time.sleep(0.01)
            held.go.set()

        threading.Thread(target=go_once_it_ends, daemon=True).start()
    for future in (waiting, worker.submit(blank(2), heat=False)):
        with pytest.raises(CancelledError):
            future.result(30)
    assert not worker.alive


def test_what_loading_the_model_raises_comes_before_anything_is_served() -> None:
    def load() -> Classifier:
        raise DataError("no such weights")

    with pytest.raises(DataError, match="no such weights"), Worker(load, 1):
        pass


def test_a_reservation_is_given_back(held: Held) -> None:
    worker = working(held, capacity=3)
    with worker.reserve(2), pytest.raises(BusyError), worker.reserve(2):
        pass
    with worker.reserve(3):
        pass
