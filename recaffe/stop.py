"""Ctrl-C, SIGTERM and SIGHUP in a workflow's job: heard from the first import on, and remembered.

Python's own KeyboardInterrupt can be lost: whatever runs in a fork's or an object's last moments, and
every `except:` of a library, swallows it. So long loops look up here as well.
"""

from __future__ import annotations

import signal
import sys
import threading
import time
from types import FrameType, TracebackType

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
# Seconds within which one Ctrl-C may come twice: from the terminal, and passed on by Apptainer, a
# launcher or Snakemake. What is begun at the first, such as a last snapshot, must not be cut short by that.
ECHO = 2.0
MESSAGE = "Stopped. Run the same command again to go on."

_asked = threading.Event()
_at = 0.0  # when the last of them was obeyed


def listen() -> None:
    """From now on each of the signals raises `KeyboardInterrupt`, and is remembered.

    But for those that are ignored, as `nohup` wants it.
    """
    if threading.current_thread() is threading.main_thread():
        for number in SIGNALS:
            if signal.getsignal(number) != signal.SIG_IGN:
                signal.signal(number, _interrupt)


def listen_early() -> None:
    """`listen`, and one message instead of a traceback where nothing catches the interrupt yet."""
    listen()
    before = sys.excepthook

    def hook(kind: type[BaseException], error: BaseException, where: TracebackType | None) -> None:
        if issubclass(kind, KeyboardInterrupt):
            print(f"\nrecaffe: {MESSAGE}\n", file=sys.stderr)
        else:
            before(kind, error, where)

    sys.excepthook = hook


def asked() -> bool:
    """Whether a stop was asked for."""
    return _asked.is_set()


def look_up() -> None:
    """Raises `KeyboardInterrupt` if a stop was asked for."""
    if asked():
        raise KeyboardInterrupt


def is_echo(since: float) -> bool:
    """Whether a signal now may be the same as that of the monotonic second `since`."""
    return time.monotonic() - since < ECHO


def _interrupt(number: int, frame: FrameType | None) -> None:
    global _at
    if asked() and is_echo(_at):
        return
    _at = time.monotonic()
    _asked.set()
    raise KeyboardInterrupt
