"""What every rule's script needs around its few lines: the log, the terminal, the one message."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from recaffe import image, status, stop, turns
from recaffe.errors import RecaffeError, is_out_of_memory
from recaffe.files import explain_os_error

_OUT_OF_MEMORY = (
    "Not enough memory. Nothing half done is kept. Give the job more (the limit may be `ulimit -v`, a "
    "container's or a cluster's), or use fewer --cores or a smaller batch; then run the same command "
    "again. Details: {log}"
)


@contextmanager
def script(log: str) -> Iterator[None]:
    """Send stdout and stderr to `log`, the terminal gets messages alone; end mistakes well.

    In one of recaffe's images the log's first line says which one it is.

    A `RecaffeError` is one message on the terminal and in the log, and exit status 1; so is a full
    disk, a missing permission or a lack of memory. SIGTERM and SIGHUP stop it as Ctrl-C does.
    Anything else is a defect and keeps its traceback, in the log.
    """
    stop.listen()
    Path(log).parent.mkdir(parents=True, exist_ok=True)
    sys.stdout.flush()
    sys.stderr.flush()
    terminal = os.dup(2)
    os.set_inheritable(terminal, False)
    os.environ["RECAFFE_TTY"] = str(terminal)
    with Path(log).open("w", buffering=1, encoding="utf-8") as f:
        os.dup2(f.fileno(), 1)
        os.dup2(f.fileno(), 2)
    status.begin(log)
    try:
        with turns.job():
            if line := image.begins():
                print(line)
            yield
            if line := image.ends():
                print(line)
            sys.stdout.flush()
    except RecaffeError as error:
        _end(terminal, str(error), 1)
    except KeyboardInterrupt:
        _end(terminal, stop.MESSAGE, 130)
    except OSError as error:
        _keep_trace()
        _end(terminal, str(explain_os_error(error, error.filename or f"{log} or a result")), 1)
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        _keep_trace()
        _end(terminal, _OUT_OF_MEMORY.format(log=log), 1)
    finally:
        status.end()


def tell(message: str) -> None:
    """A line on the terminal (not with --quiet all) and in the log; outside a script, on stdout."""
    print(message, flush=True)
    terminal = os.environ.get("RECAFFE_TTY")
    if terminal and os.environ.get(status.QUIET) != "all":
        with suppress(OSError):  # a terminal that was closed
            os.write(int(terminal), f"{message}\n".encode("utf-8", "replace"))


def _keep_trace() -> None:
    with suppress(OSError):  # the log's own disk may be the full one
        traceback.print_exc()


def _end(terminal: int, message: str, status: int) -> None:
    with suppress(OSError):
        print(f"recaffe: {message}", file=sys.stderr, flush=True)
    with suppress(OSError):  # a terminal that was closed
        os.write(terminal, f"\nrecaffe: {message}\n\n".encode("utf-8", "replace"))
    sys.exit(status)
