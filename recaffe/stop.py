"""Ctrl-C, SIGTERM and SIGHUP in a workflow's job: heard from the first import on, and remembered.

Python's own KeyboardInterrupt can be lost: whatever runs in a fork's or an object's last moments, and
every `except:` of a library, swallows it. So long loops look up here as well.
"""

from __future__ import annotations

import signal
import sys
import threading
from types import FrameType, TracebackType

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
MESSAGE = "Stopped. Run the same command again to go on."

_asked = threading.Event()


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


def _interrupt(number: int, frame: FrameType | None) -> None:
    _asked.set()
    raise KeyboardInterrupt
