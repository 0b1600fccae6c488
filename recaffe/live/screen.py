"""The terminal while there is a view: all that this process and its jobs say there goes by above it."""

from __future__ import annotations

import atexit
import os
import select
import signal
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress

from recaffe.live.region import Region

_PERIOD = 0.25  # seconds between two frames
_REST = 0.5  # seconds after which a line that has no end yet is shown
_END = 5.0  # seconds to wait for the drawing to end


class Screen:
    """Takes stderr, and stdout where that is the same terminal, and draws `lines(columns, rows)` below.

    What others write to them is read from a pipe and written to the terminal as it is. Children inherit
    the pipe's end; so nothing can be drawn over.
    """

    def __init__(self, lines: Callable[[int, int], list[str]], encoding: str) -> None:
        self._lines, self._rest, self._rest_since = lines, b"", 0.0
        self._ended = threading.Event()
        self._terminal = os.dup(2)
        self._region = Region(self._terminal, encoding)
        taken = [2, 1] if _is_same_terminal(1, 2) else [2]
        self._kept = [(fd, os.dup(fd)) for fd in taken]
        self._read, write = os.pipe()
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        for fd in taken:
            os.dup2(write, fd)
        self._write = write
        os.set_blocking(self._read, False)
        self._thread = threading.Thread(target=self._run, name="recaffe-live", daemon=True)
        self._thread.start()
        self._owner = os.getpid()
        atexit.register(self.end)

    def say(self, text: str) -> None:
        """A line that goes by, in its order among the others'."""
        with suppress(OSError):
            os.write(self._write, f"{text}\n".encode(self._region.encoding, "replace"))

    def end(self) -> None:
        """Show what is left to be said, remove the view, and give the terminal back."""
        if self._ended.is_set() or os.getpid() != self._owner:
            return
        for stream in (sys.stdout, sys.stderr):
            with suppress(OSError, ValueError):
                stream.flush()
        for fd, kept in self._kept:
            os.dup2(kept, fd)
            os.close(kept)
        self._ended.set()
        self._thread.join(_END)
        atexit.unregister(self.end)

    def _run(self) -> None:
        # Signals are the main thread's.
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM, signal.SIGHUP})
        last = 0.0
        while not self._ended.is_set():
            select.select([self._read], [], [], _PERIOD)
            above = self._taken()
            if above or time.monotonic() - last >= _PERIOD:
                last = time.monotonic()
                self._region.draw(self._frame(), above)
        self._region.draw([], self._taken(all_of_it=True))

    def _frame(self) -> list[str]:
        columns, rows = self._region.size()
        try:
            # The last column stays free: some terminals wrap as soon as it is written.
            return self._lines(columns - 1, rows - 1)[: rows - 1]
        except Exception as error:  # whatever is wrong with it, the workflow goes on
            return [f"The live view can't be drawn: {error!r}"[: columns - 1]]

    def _taken(self, all_of_it: bool = False) -> bytes:
        """Whole lines that were said since; a line that is begun may be ended, so it is kept a while."""
        said = b""
        with suppress(BlockingIOError):
            while data := os.read(self._read, 65536):
                said += data
        lines, end, rest = (self._rest + said).rpartition(b"\n")
        now = time.monotonic()
        if said:
            self._rest_since = now
        if rest and (all_of_it or now - self._rest_since > _REST):
            lines, end, rest = lines + end + rest, b"\n", b""
        self._rest = rest
        return lines + end


def _is_same_terminal(one: int, other: int) -> bool:
    try:
        return os.isatty(one) and os.fstat(one).st_rdev == os.fstat(other).st_rdev
    except OSError:
        return False
