"""A training's log → its events and their moments, while it grows, and from the start of each attempt."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from recaffe.engines.base import Event, Snapshot, Step, Test
from recaffe.engines.caffe.log import Parser

_STAMP = re.compile(r"[IWEF](?:(\d{4}))?(\d\d)(\d\d) (\d\d):(\d\d):(\d\d)(\.\d+)? ")
_RESTORED = re.compile(r"Restoring previous solver status from \S*_iter_(\d+)\.solverstate")
_BEGINS = "Learning Rate Policy"
_DAY = 86400.0
_HEAD = 64  # bytes by which one log is told from the next: the first line's stamp is among them


@dataclass(frozen=True)
class Start:
    """Training begins, or begins again, at `iteration`: what was known of it and later ones is void."""

    iteration: int


class Log:
    """The log at `path`, of a training that takes in so many pictures an iteration (0: unknown).

    It may not be there yet, and be begun anew; a line counts once it is whole.
    """

    def __init__(self, path: Path, pictures: int) -> None:
        self.path, self.pictures, self._head = path, pictures, b""
        self._begin()

    def read(self) -> Iterator[tuple[float, Event | Start]]:
        """What was added since the last time, each with its moment (seconds since 1970)."""
        try:
            file = self.path.open("rb")
        except FileNotFoundError:
            return
        with file:
            head = file.read(_HEAD)
            if not head.startswith(self._head):  # another training writes it now
                self._begin()
                yield time.time(), Start(0)
            self._head = head
            file.seek(self._at)
            for line in file:
                if not line.endswith(b"\n"):
                    break
                self._at += len(line)
                yield from self._line(line.decode("utf-8", "replace").rstrip("\r\n"))

    def finish(self) -> Iterator[tuple[float, Event | Start]]:
        """The rest, and what is over with the log's end."""
        yield from self.read()
        for event in self._parser.finish():
            yield from self._event(event)

    @property
    def is_over(self) -> bool:
        """Whether the training says that it has ended."""
        return self._parser.done or self._parser.stopped

    def _begin(self) -> None:
        self._at, self._now = 0, time.time()
        self._head = b""
        self._parser = Parser(0, self.pictures)
        self._restored: int | None = 0
        self._is_first = False
        self._last: dict[tuple[str, int], int] = {}

    def _line(self, line: str) -> Iterator[tuple[float, Event | Start]]:
        if moment := moment_of(line):
            self._now = moment
        if found := _RESTORED.search(line):
            self._restored = int(found[1])
        for event in self._parser.feed(line):
            yield from self._event(event)
        if _BEGINS in line:
            if self._last and self._restored:
                yield self._now, self._start(self._restored)
            # Where real Caffe has restored is seen by its next iteration only.
            self._is_first = bool(self._last) and not self._restored
            self._parser = Parser(self._restored or 0, self.pictures)
            list(self._parser.feed(line))
            self._restored = None

    def _event(self, event: Event) -> Iterator[tuple[float, Event | Start]]:
        if isinstance(event, Snapshot):
            return
        kind = type(event).__name__, event.net if isinstance(event, Test) else 0
        if event.iteration <= self._last.get(kind, -1):
            yield self._now, self._start(event.iteration)
        self._last[kind] = event.iteration
        if isinstance(event, Step) and (self._is_first or not self.pictures):
            self._is_first = False
            event = replace(event, images_per_second=math.nan)
        yield self._now, event

    def _start(self, iteration: int) -> Start:
        self._last = {kind: min(last, iteration - 1) for kind, last in self._last.items()}
        return Start(iteration)


def moment_of(line: str) -> float | None:
    """The moment in a line's stamp, which leaves the year out in glog's older forms."""
    found = _STAMP.match(line)
    if found is None:
        return None
    year, *numbers = found.group(1, 2, 3, 4, 5, 6)
    month, day, hour, minute, second = map(int, numbers)
    now = time.time()
    said = int(year) if year else time.localtime(now).tm_year
    try:
        moment = time.mktime((said, month, day, hour, minute, second, 0, 0, -1))
        if not year and moment > now + _DAY:  # of the last December
            moment = time.mktime((said - 1, month, day, hour, minute, second, 0, 0, -1))
    except (ValueError, OverflowError):
        return None
    return moment + float(found[7] or 0)


def numbers_of(event: Event | Start) -> dict[str, float]:
    """An event's numbers by name; those that are nan or infinite are left out."""
    values: dict[str, float] = {}
    if isinstance(event, Step):
        values |= {"train/loss": event.loss, "train/lr": event.lr}
        values |= {"train/images_per_second": event.images_per_second}
        values |= {f"train_output/{o.name}": o.value for o in event.outputs}
    elif isinstance(event, Test):
        test = f"test{event.net or ''}"
        values |= {f"{test}/{o.name}": o.value for o in event.outputs}
        values |= {f"{test}/total_loss": event.total}
    return {name: value for name, value in values.items() if math.isfinite(value)}
