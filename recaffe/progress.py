"""One progress bar on a terminal, a line now and then in a log."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterable, Iterator
from typing import Any, TextIO, TypeVar

from tqdm import tqdm

from recaffe import stop

T = TypeVar("T")
SECONDS_BETWEEN_LINES = 10.0


def terminal() -> TextIO | None:
    """The terminal to draw on, or None where there is none.

    A script's own stderr goes to its log, so the workflow passes the terminal's descriptor on in
    RECAFFE_TTY.
    """
    fd = int(os.environ.get("RECAFFE_TTY", "2"))
    try:
        if os.isatty(fd):
            return os.fdopen(os.dup(fd), "w")
    except OSError:
        pass
    return None


def line(text: str) -> None:
    """A plain line on stderr; and where a script's caller has no terminal for bars, there too."""
    print(text, file=sys.stderr, flush=True)
    fd = os.environ.get("RECAFFE_TTY")
    if fd is not None and not os.isatty(int(fd)):
        os.write(int(fd), f"{text}\n".encode("utf-8", "replace"))


def relay(said: str, title: str) -> None:
    """Pass on a line of stderr of what trains elsewhere; its `line`s go to the terminal as well."""
    sys.stderr.write(said)
    sys.stderr.flush()
    terminal = os.environ.get("RECAFFE_TTY")
    if terminal is not None and said.startswith(f"{title}: iteration"):
        os.write(int(terminal), said.encode("utf-8", "replace"))


def bar(total: int, title: str, unit: str, **options: Any) -> tqdm:
    """A tqdm bar on the terminal, disabled where there is none."""
    tty = terminal()
    return tqdm(
        total=total, desc=title, unit=unit, file=tty or sys.stderr, disable=tty is None,
        dynamic_ncols=True, leave=True, **options,
    )  # fmt: skip


def progress(items: Iterable[T], total: int, title: str, unit: str) -> Iterator[T]:
    """Pass items on and show how far it is: a bar on a terminal, plain lines on stderr.

    Raises `KeyboardInterrupt` where a job was asked to stop.
    """
    start = last = time.monotonic()
    with bar(total, title, unit) as shown:
        for done, item in enumerate(items, 1):
            stop.look_up()
            yield item
            shown.update()
            now = time.monotonic()
            if now - last > SECONDS_BETWEEN_LINES or done == total:
                last = now
                rate = done / max(now - start, 1e-9)
                left = (total - done) / rate
                line(f"{title}: {done} of {total} {unit}, {rate:.0f} {unit}/s, {left:.0f} s left")
