"""`caffe train`'s own lines → events, as they come.

Source: the LOG calls of `Solver` and `SGDSolver` in BVLC Caffe 1.0, and glog's prefix, which has a
year in it since glog 0.6.
"""

from __future__ import annotations

import math
import re
from collections import deque
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from recaffe.engines.base import Event, Output, Snapshot, Step, Test

# Of the solver alone: others speak in between, such as `blocking_queue.cpp: Waiting for data`.
_PREFIX = re.compile(
    r"[IWEF](?:\d{4}|\d{8}) (\d\d):(\d\d):(\d\d\.\d+) +\d+ "
    r"(?:solver|sgd_solver|caffe)\.cpp:\d+\] (?P<text>.*)"
)
_NUMBER = r"([-+]?(?:nan|inf|[0-9.]+(?:e[-+]?\d+)?))"
_SHOWN = re.compile(rf"Iteration (\d+) \(.* iters\), loss = {_NUMBER}")
_RATE = re.compile(rf"Iteration (\d+), lr = {_NUMBER}")
_OUTPUT = re.compile(
    rf"    (Train|Test) net output #\d+: (.+) = {_NUMBER}(?: \(\* {_NUMBER} = {_NUMBER} loss\))?$"
)
_TESTING = re.compile(r"Iteration (\d+), Testing net \(#(\d+)\)")
_TOTAL = re.compile(rf"Test loss: {_NUMBER}")
_MODEL = re.compile(r"Snapshotting to (?:binary proto|HDF5) file (.+_iter_(\d+)\.caffemodel\S*)")
_STATE = re.compile(r"Snapshotting solver state to (?:binary proto|HDF5) file (.+)")
_STATUS = re.compile(r"MultiStep Status: Iteration \d+, step = \d+")
_DAY = 86400.0


class Parser:
    """Reads the lines of one `caffe train` that starts at iteration `start`.

    `pictures` is what an iteration takes in, over all GPUs; `accuracy` and `loss` name the blobs by
    which a test is judged. An event is given when it is over: a test with the solver's line after its
    outputs, a snapshot with that after its files.
    """

    def __init__(self, start: int, pictures: int, accuracy: str = "", loss: str = "") -> None:
        self.pictures, self.accuracy, self.loss = pictures, accuracy, loss
        self.iteration = start
        self.started = self.stopped = self.done = False
        # Seconds that were spent on tests.
        self.testing = 0.0
        # What it said last, for the cause of its end.
        self.last: deque[str] = deque(maxlen=200)
        # A snapshot of which Caffe has announced both files and not yet said anything else.
        self.writing: Snapshot | None = None
        self._shown, self._shown_at, self._between = start - 1, math.nan, 0.0
        self._step: Step | None = None
        self._test: Test | None = None
        self._test_began = self._test_ended = self._now = math.nan
        self._model: Path | None = None

    def feed(self, line: str) -> Iterator[Event]:
        """Read one line, without its end."""
        self.last.append(line)
        found = _PREFIX.fullmatch(line)
        if found is None:
            return
        hours, minutes, seconds = found.group(1, 2, 3)
        self._now = int(hours) * 3600 + int(minutes) * 60 + float(seconds)
        text = found["text"]
        if not self._outputs(text):
            yield from self.finish()
            yield from self._line(text)

    def finish(self) -> Iterator[Event]:
        """What is over when Caffe says something else, or nothing more."""
        if self._test is not None:
            test, self._test = self._test, None
            lapse = _between(self._test_began, self._test_ended)
            self.testing, self._between = self.testing + lapse, self._between + lapse
            if test.outputs:
                values = {o.name: o.value for o in reversed(test.outputs)}
                yield Test(
                    test.iteration, test.outputs, values.get(self.accuracy, math.nan),
                    values.get(self.loss, math.nan), test.net, test.total,
                )  # fmt: skip
        if self.writing is not None:
            written, self.writing = self.writing, None
            yield written

    def _outputs(self, text: str) -> bool:
        """Whether the line belongs to the test or the step before it."""
        if self._test is not None and (total := _TOTAL.fullmatch(text)):
            self._test = replace(self._test, total=float(total[1]))
            return True
        found = _OUTPUT.match(text)
        if found is None:
            return False
        output = Output(found[2], float(found[3]), float(found[4] or 0))
        if found[1] == "Test" and self._test is not None:
            self._test_ended = self._now
            self._test = replace(self._test, outputs=(*self._test.outputs, output))
        elif found[1] == "Train" and self._step is not None:
            self._step = replace(self._step, outputs=(*self._step.outputs, output))
        return True

    def _line(self, text: str) -> Iterator[Event]:
        if found := _SHOWN.fullmatch(text):
            self._show(int(found[1]), float(found[2]))
        elif found := _RATE.fullmatch(text):
            if self._step is not None:
                yield replace(self._step, lr=float(found[2]))
            self._step = None
        elif _STATUS.fullmatch(text) and self._step is not None:
            self._step = replace(self._step, status=text)
        elif found := _TESTING.fullmatch(text):
            self.iteration, self._test_began = int(found[1]), self._now
            self._test = Test(self.iteration, (), math.nan, math.nan, int(found[2]))
        elif found := _MODEL.fullmatch(text):
            self.iteration, self._model = int(found[2]), Path(found[1])
        elif (found := _STATE.fullmatch(text)) and self._model is not None:
            self.writing = Snapshot(self.iteration, self._model, Path(found[1]))
        elif text.startswith("Learning Rate Policy"):
            self.started, self._shown_at = True, self._now
        elif text == "Optimization stopped early.":
            self.stopped = True
        elif text == "Optimization Done.":
            self.done = not self.stopped  # caffe.cpp says it after a stop as well

    def _show(self, iteration: int, loss: float) -> None:
        lapse = max(_between(self._shown_at, self._now) - self._between, 0.0)
        steps = max(iteration - self._shown, 1)
        rate = steps * self.pictures / max(lapse, 1e-6)
        self._step = Step(iteration, loss, math.nan, rate, lapse, steps)
        self.iteration = self._shown = iteration
        self._shown_at, self._between = self._now, 0.0


def _between(earlier: float, later: float) -> float:
    """Seconds from one time of day to another, over midnight too; 0 where one is unknown."""
    lapse = (later - earlier) % _DAY
    return 0.0 if math.isnan(lapse) else lapse
