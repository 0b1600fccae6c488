"""How far a job is: for the workflow's view, as one bar on a terminal, as a line now and then in a log."""

from __future__ import annotations

import os
import sys
import time
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TypeVar

from recaffe import status, stop

if TYPE_CHECKING:
    from rich.progress import Progress

T = TypeVar("T")
SECONDS_BETWEEN_LINES = 10.0
_SECONDS_BETWEEN_FRAMES = 0.1
_SECONDS_OF_A_RATE = 30.0
_SHORT = 0.2  # seconds that say nothing of a rate yet


def line(text: str) -> None:
    """A plain line on stderr; in a script also where its caller's lines go, unless that is quiet.

    A script's own stderr goes to its log, so it is passed its caller's in RECAFFE_TTY.
    """
    print(text, file=sys.stderr, flush=True)
    _to_the_caller(f"{text}\n")


def relay(said: str, title: str) -> None:
    """Pass on a line of stderr of what trains elsewhere; its `line`s go to the caller as well."""
    sys.stderr.write(said)
    sys.stderr.flush()
    if said.startswith(f"{title}: iteration"):
        _to_the_caller(said)


def _to_the_caller(text: str) -> None:
    caller = os.environ.get("RECAFFE_TTY")
    if caller is not None and not os.environ.get(status.QUIET):
        with suppress(OSError):  # its terminal was closed
            os.write(int(caller), text.encode("utf-8", "replace"))


class Bar:
    """How many of `total` (None: nobody knows) `unit`s are done, and what else is to be said of it.

    A workflow's job writes it to its status file, for the workflow to show; elsewhere it is a bar on
    the terminal, if stderr is one and unless `hidden`.
    """

    def __init__(
        self, total: int | None, title: str, unit: str, initial: int = 0, hidden: bool = False
    ) -> None:
        self.total, self.unit, self.done = total, unit, initial
        self.values: dict[str, float] = {}
        # Moments and what was done by then, of the last seconds.
        self._past = deque([(time.monotonic(), initial)])
        self._drawn = 0.0
        self._shown: Progress | None = None
        if not hidden and not status.is_wanted() and sys.stderr.isatty():
            self._shown = _drawn_bar(unit)
            self._task = self._shown.add_task(title, total=total, completed=initial, said="")
            self._shown.start()
        self._tell(at_once=True)

    @property
    def is_drawn(self) -> bool:
        """Whether there is a bar on a terminal."""
        return self._shown is not None

    @property
    def rate(self) -> float:
        """Units a second, in the last half minute; 0 as long as that isn't known."""
        (then, had), now = self._past[0], time.monotonic()
        return (self.done - had) / (now - then) if now - then > _SHORT else 0.0

    def update(self, count: int = 1) -> None:
        """So many more are done."""
        self.done += count
        self._tell()

    def say(self, **values: float) -> None:
        """Numbers to show beside it, by name; those of earlier calls stay."""
        self.values |= values
        self._tell()

    def close(self) -> None:
        """The last word; a bar stays where it is."""
        self._tell(at_once=True)
        if self._shown is not None:
            self._shown.stop()

    def __enter__(self) -> Bar:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _tell(self, at_once: bool = False) -> None:
        now = time.monotonic()
        if now - self._past[-1][0] >= 1:
            self._past.append((now, self.done))
            while now - self._past[1][0] > _SECONDS_OF_A_RATE:
                self._past.popleft()
        status.write(self._status, at_once)
        if self._shown is not None and (at_once or now - self._drawn > _SECONDS_BETWEEN_FRAMES):
            self._drawn = now
            said = "  ".join(f"{name} {value:.4g}" for name, value in self.values.items())
            self._shown.update(self._task, completed=self.done, said=said, refresh=True)

    def _status(self) -> dict[str, Any]:
        rate = self.rate
        left = (self.total - self.done) / rate if rate > 0 and self.total is not None else None
        return {
            "done": self.done, "total": self.total, "unit": self.unit, "rate": rate, "left": left,
            **self.values,
        }  # fmt: skip


def bar(total: int | None, title: str, unit: str, **options: Any) -> Bar:
    """A `Bar`, to be closed."""
    return Bar(total, title, unit, **options)


def progress(items: Iterable[T], total: int, title: str, unit: str) -> Iterator[T]:
    """Pass items on and show how far it is: a `Bar`, and plain lines where none is drawn.

    Raises `KeyboardInterrupt` where a job was asked to stop.
    """
    start = last = time.monotonic()
    with bar(total, title, unit) as shown:
        for done, item in enumerate(items, 1):
            stop.look_up()
            yield item
            shown.update()
            now = time.monotonic()
            if shown.is_drawn:
                continue
            if now - last > SECONDS_BETWEEN_LINES or done == total:
                last = now
                rate = done / max(now - start, 1e-9)
                left = (total - done) / rate
                line(f"{title}: {done} of {total} {unit}, {rate:.0f} {unit}/s, {left:.0f} s left")


def _drawn_bar(unit: str) -> Progress:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )

    counted = (
        [DownloadColumn(), TransferSpeedColumn()]
        if unit == "B"
        else [MofNCompleteColumn(), TextColumn(unit)]
    )
    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        *counted,
        TimeRemainingColumn(),
        TextColumn("{task.fields[said]}", markup=False),
        console=Console(stderr=True),
        # No thread of its own: a fork would inherit its locks.
        auto_refresh=False,
        redirect_stdout=False,
    )
