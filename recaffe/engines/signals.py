"""What a training does when the machine tells it to stop."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from recaffe import stop

NONE, SNAPSHOT, STOP = range(3)
EFFECTS = {"none": NONE, "snapshot": SNAPSHOT, "stop": STOP}


class Requests:
    """The strongest effect asked for since it was last taken."""

    def __init__(self) -> None:
        self.asked, self.since = NONE, 0.0

    def ask(self, effect: int) -> None:
        """Ask for an effect; `since` is when a stop was asked for first."""
        if effect == STOP != self.asked:
            self.since = time.monotonic()
        self.asked = max(self.asked, effect)

    def take(self) -> int:
        """What to do now; a stop stays asked for."""
        asked = self.asked
        if asked == SNAPSHOT:
            self.asked = NONE
        return asked


@contextmanager
def requests(sigint: str, sighup: str) -> Iterator[Requests]:
    """Turn SIGINT, SIGHUP and SIGTERM into requests; a later, second SIGINT interrupts at once.

    SIGTERM always stops: it is what a cluster sends before a job's time is over. Outside the main
    thread, where Python allows no handlers, nothing is ever asked for.
    """
    effects = {
        signal.SIGINT: EFFECTS[sigint], signal.SIGHUP: EFFECTS[sighup], signal.SIGTERM: STOP
    }  # fmt: skip
    asked = Requests()

    def handler(number: int, frame: FrameType | None) -> None:
        if number == signal.SIGINT and asked.asked == STOP and not stop.is_echo(asked.since):
            raise KeyboardInterrupt
        asked.ask(effects[signal.Signals(number)])

    if threading.current_thread() is not threading.main_thread():
        yield asked
        return
    old = {s: signal.signal(s, handler) for s in effects}
    # A launcher's process starts with some of them blocked, and hears them from here on.
    blocked = signal.pthread_sigmask(signal.SIG_UNBLOCK, effects)
    if stop.asked():
        asked.ask(STOP)
    try:
        yield asked
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
        for number, previous in old.items():
            signal.signal(number, previous)
