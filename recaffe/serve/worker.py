"""One thread that has the net: it takes what waits, up to a batch, and answers it at once."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np

from recaffe.model.classifier import Classifier
from recaffe.serve import BusyError


@dataclass(frozen=True)
class Heat:
    """What the net saw, uint8 H×W×3, and its map of the likeliest class, float32 h×w in 0..1."""

    seen: np.ndarray
    map: np.ndarray


@dataclass(frozen=True)
class Result:
    """A record's probabilities, float32 K, and its heat map where one was asked for."""

    scores: np.ndarray
    heat: Heat | None = None


@dataclass
class _Task:
    record: np.ndarray
    heat: bool
    future: Future[Result] = field(default_factory=Future)


class Worker:
    """Starts on entering, and ends with the batch at hand on leaving.

    `load` makes the classifier, in the thread that will use it. `capacity` is how many pictures may
    be reserved at once.
    """

    def __init__(self, load: Callable[[], Classifier], capacity: int) -> None:
        self.capacity = capacity
        self.reserved = 0
        self.no_heat_maps = ""  # why there are none
        self._load = load
        self._waiting: deque[_Task] = deque()
        self._changed = threading.Condition()
        self._ends = False
        self._loaded: Future[None] = Future()
        # A daemon: a batch that takes minutes must not hold up the end of the process.
        self._thread = threading.Thread(target=self._run, name="net", daemon=True)

    def __enter__(self) -> Worker:
        """Raises what `load` raises, or the first pass of a blank record."""
        self._thread.start()
        self._loaded.result()
        return self

    def __exit__(self, *exception: object) -> None:
        with self._changed:
            self._ends = True
            self._changed.notify()
        self._thread.join(timeout=5)

    @property
    def alive(self) -> bool:
        """Whether it still answers."""
        return self._thread.is_alive()

    @contextmanager
    def reserve(self, pictures: int) -> Iterator[None]:
        """Room for so many; raises `BusyError` where there isn't."""
        with self._changed:
            if self.reserved + pictures > self.capacity:
                raise BusyError
            self.reserved += pictures
        try:
            yield
        finally:
            with self._changed:
                self.reserved -= pictures

    def submit(self, record: np.ndarray, heat: bool) -> Future[Result]:
        """A record's answer, once it has one. Whoever no longer wants it cancels it."""
        task = _Task(record, heat)
        with self._changed:
            if self._ends:
                task.future.cancel()
            self._waiting.append(task)
            self._changed.notify()
        return task.future

    def _run(self) -> None:
        try:
            classifier = self._load()
            classifier.scores([np.zeros(classifier.model.record_shape, np.uint8)])
            self.no_heat_maps = classifier.why_no_heat_maps()
        except BaseException as error:
            self._loaded.set_exception(error)
            return
        self._loaded.set_result(None)
        while tasks := self._next(classifier.batch_size):
            try:
                results = _answers(classifier, tasks)
            except BaseException as error:
                for task in tasks:
                    task.future.set_exception(error)
                continue
            for task, result in zip(tasks, results, strict=True):
                task.future.set_result(result)

    def _next(self, most: int) -> list[_Task]:
        """What waits, `most` at most, of which nothing was cancelled; [] at the end."""
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._ends)
                if self._ends:
                    for task in self._waiting:
                        task.future.cancel()
                    return []
                taken = [self._waiting.popleft() for _ in range(min(most, len(self._waiting)))]
            if wanted := [x for x in taken if x.future.set_running_or_notify_cancel()]:
                return wanted


def _answers(classifier: Classifier, tasks: list[_Task]) -> list[Result]:
    scores = classifier.scores([x.record for x in tasks])
    heats: dict[int, Heat] = {}
    if asked := [i for i, x in enumerate(tasks) if x.heat]:
        best = [int(scores[i].argmax()) for i in asked]
        seen, maps = classifier.heat_maps([tasks[i].record for i in asked], best)
        heats = {i: Heat(*pair) for i, *pair in zip(asked, seen, maps, strict=True)}
    return [Result(row.copy(), heats.get(i)) for i, row in enumerate(scores)]
