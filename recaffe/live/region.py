"""Lines that stay below all else on a terminal, while others go by above them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress

from recaffe.live.table import width_of

# Hidden only within one write, so that no end of this process can leave the cursor hidden.
_HIDE, _SHOW, _CLEAR_BELOW = b"\x1b[?25l", b"\x1b[?25h", b"\x1b[J"


class Region:
    """The lines on the terminal `fd`; its cursor rests below them."""

    def __init__(self, fd: int, encoding: str) -> None:
        self.fd, self.encoding = fd, encoding
        self._shown: Sequence[str] = ()

    def size(self) -> tuple[int, int]:
        """Columns and rows."""
        try:
            size = os.get_terminal_size(self.fd)
        except OSError:  # closed
            return 80, 24
        return max(size.columns, 1), max(size.lines, 1)

    def draw(self, lines: Sequence[str], above: bytes = b"") -> None:
        """Replace what is shown, and let `above`, whole lines as they are, go by."""
        if not above and list(lines) == list(self._shown):
            return
        columns, _ = self.size()
        # A terminal that became narrower has wrapped them.
        rows = sum(max(1, -(-width_of(line) // columns)) for line in self._shown)
        up = b"\x1b[%dA" % rows if rows else b""
        text = "".join(f"{line}\n" for line in lines).encode(self.encoding, "replace")
        self._shown = list(lines)
        self._write(_HIDE + up + b"\r" + _CLEAR_BELOW + above + text + _SHOW)

    def _write(self, data: bytes) -> None:
        with suppress(OSError):  # the terminal was closed
            while data:
                data = data[os.write(self.fd, data) :]
