"""Caffe as a child process: its lines as they come, and its end."""

from __future__ import annotations

import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType

_LIFELINE = Path(__file__).with_name("lifeline.py")


class Child:
    """A program in a session of its own: a terminal's Ctrl-C is its parent's to pass on.

    It can't outlive this process, and is killed where the `with` block ends before it.
    """

    def __init__(self, command: Sequence[str], env: Mapping[str, str]) -> None:
        self._lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self.process = subprocess.Popen(
            [sys.executable, "-I", "-S", str(_LIFELINE), str(os.getpid()), *command],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=env,
            encoding="utf-8", errors="replace", start_new_session=True,
        )  # fmt: skip
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def __enter__(self) -> Child:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:  # fmt: skip
        self.kill()
        self.process.wait()
        self._reader.join()

    def lines(self, seconds: float) -> Iterator[str | None]:
        """All that it says, to its end; None whenever it has said nothing for so many seconds."""
        while True:
            try:
                line = self._lines.get(timeout=seconds)
            except queue.Empty:
                yield None
                continue
            if line is None:
                self.process.wait()
                return
            yield line

    def interrupt(self) -> None:
        """SIGINT, for which Caffe writes a snapshot and ends."""
        self.process.send_signal(signal.SIGINT)

    def kill(self) -> None:
        """End it at once."""
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)

    def _read(self) -> None:
        assert self.process.stdout is not None
        with self.process.stdout as said:
            for line in said:
                self._lines.put(line.rstrip("\n"))
        self._lines.put(None)
