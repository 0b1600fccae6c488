"""A terminal to run a program in, and what stands on its screen."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import termios
import time
from collections.abc import Callable, Sequence
from pathlib import Path

_TOKEN = re.compile(
    r"\x1b\[(?P<arguments>[0-9;?]*)(?P<code>[A-Za-z])|(?P<character>[\r\n\b\x07])|(?P<text>[^\x1b\r\n\b\x07]+)"
    r"|(?P<unknown>\x1b.?)"
)


class Screen:
    """So much of a VT100 as the view needs; lines that have left the screen stay in `lines`."""

    def __init__(self, columns: int, rows: int) -> None:
        self.columns, self.rows = columns, rows
        self.lines = [""]
        self.row = self.column = 0
        self.cursor_shown = True
        self.unknown: list[str] = []

    @property
    def top(self) -> int:
        return max(0, len(self.lines) - self.rows)

    def feed(self, text: str) -> None:
        for token in _TOKEN.finditer(text):
            if token["code"]:
                self._command(token["code"], token["arguments"])
            elif token["character"] == "\r":
                self.column = 0
            elif token["character"] == "\n":
                self._down()
            elif token["text"]:
                for character in token["text"]:
                    self._put(character)
            elif token["unknown"]:
                self.unknown.append(token["unknown"])

    def _command(self, code: str, arguments: str) -> None:
        if code == "A":
            self.row = max(self.top, self.row - int(arguments or 1))
        elif code == "J" and not arguments:
            self.lines[self.row] = self.lines[self.row][: self.column]
            for row in range(self.row + 1, len(self.lines)):
                self.lines[row] = ""
        elif code in "hl" and arguments == "?25":
            self.cursor_shown = code == "h"
        elif code != "m":
            self.unknown.append(f"{arguments}{code}")

    def _down(self) -> None:
        self.row += 1
        if self.row == len(self.lines):
            self.lines.append("")

    def _put(self, character: str) -> None:
        if self.column == self.columns:
            self.column = 0
            self._down()
        line = self.lines[self.row].ljust(self.column)
        self.lines[self.row] = line[: self.column] + character + line[self.column + 1 :]
        self.column += 1

    @property
    def text(self) -> str:
        """All that was said and what stands there now."""
        return "\n".join(self.lines)


class Terminal:
    """A program on a terminal of its own, in a session of its own."""

    def __init__(
        self, command: Sequence[str], folder: Path, columns: int = 100, rows: int = 24,
        stdout: int | None = None, **variables: str,
    ) -> None:  # fmt: skip
        self.screen = Screen(columns, rows)
        self.frames: list[str] = []
        self.raw = b""
        self._rest = b""
        self.master, self.slave = pty.openpty()
        self.resize(columns, rows)
        env = {k: v for k, v in os.environ.items() if k not in ("NO_COLOR", "COLUMNS", "LINES")}
        self.process = subprocess.Popen(
            command, cwd=folder, stdin=self.slave, stdout=self.slave if stdout is None else stdout,
            stderr=self.slave, env={**env, "TERM": "xterm-256color", **variables},
            preexec_fn=self._own_terminal,
        )  # fmt: skip

    def _own_terminal(self) -> None:
        os.setsid()
        fcntl.ioctl(self.slave, termios.TIOCSCTTY, 0)

    def resize(self, columns: int, rows: int) -> None:
        """Lines that are there stay as they are: real terminals differ in that."""
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        self.screen.columns, self.screen.rows = columns, rows

    def press(self, keys: bytes) -> None:
        """Such as Ctrl-C, b"\\x03"."""
        os.write(self.master, keys)

    def until(self, met: Callable[[Screen], bool], seconds: float = 100.0) -> Screen:
        """Read until that is so; fails with what stands there when the program has ended without."""
        deadline = time.monotonic() + seconds
        while not met(self.screen):
            ended = self.process.poll() is not None
            if not self._take() and (ended or time.monotonic() > deadline):
                raise AssertionError(f"It never came to that:\n{self.screen.text}")
        return self.screen

    def end(self, seconds: float = 100.0) -> int:
        """Read to the program's end; returns its exit status."""
        deadline = time.monotonic() + seconds
        while self._take() or self.process.poll() is None:
            assert time.monotonic() < deadline, self.screen.text
        return self.process.returncode

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        os.close(self.master)
        os.close(self.slave)

    def _take(self) -> bool:
        ready, _, _ = select.select([self.master], [], [], 0.2)
        if not ready:
            return False
        data = os.read(self.master, 65536)
        self.raw += data
        data = self._rest + data
        # A character or a command may be cut.
        cut = max(data.rfind(b"\n"), data.rfind(b"h")) + 1
        whole, self._rest = data[:cut], data[cut:]
        for frame in re.split(rb"(?<=\x1b\[\?25h)", whole):
            if frame:
                self.screen.feed(frame.decode("utf-8", "replace"))
                self.frames.append("\n".join(self.screen.lines[self.screen.top :]))
        return True
