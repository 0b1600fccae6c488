"""What every rule's script needs around its few lines: the log, the terminal, the one message."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from recaffe.errors import RecaffeError
from recaffe.files import explain_os_error


@contextmanager
def script(log: str) -> Iterator[None]:
    """Send stdout and stderr to `log`, keep the terminal for progress bars, end mistakes well.

    A `RecaffeError` is one message on the terminal and in the log, and exit status 1; so is a full
    disk or a missing permission. Anything else is a defect and keeps its traceback, in the log.
    """
    Path(log).parent.mkdir(parents=True, exist_ok=True)
    sys.stdout.flush()
    sys.stderr.flush()
    terminal = os.dup(2)
    os.set_inheritable(terminal, False)
    os.environ["RECAFFE_TTY"] = str(terminal)
    with Path(log).open("w", buffering=1, encoding="utf-8") as f:
        os.dup2(f.fileno(), 1)
        os.dup2(f.fileno(), 2)
    try:
        yield
    except RecaffeError as error:
        _end(terminal, str(error), 1)
    except KeyboardInterrupt:
        _end(terminal, "Stopped. Run the same command again to go on.", 130)
    except OSError as error:
        import traceback

        traceback.print_exc()
        _end(terminal, str(explain_os_error(error, error.filename or "a file")), 1)


def tell(message: str) -> None:
    """A line on the terminal and in the log."""
    print(message, flush=True)
    os.write(int(os.environ["RECAFFE_TTY"]), f"{message}\n".encode("utf-8", "replace"))


def _end(terminal: int, message: str, status: int) -> None:
    print(f"recaffe: {message}", file=sys.stderr, flush=True)
    os.write(terminal, f"\nrecaffe: {message}\n\n".encode("utf-8", "replace"))
    sys.exit(status)
