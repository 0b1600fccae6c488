"""Groups of checks side by side, each in a process of its own, with an end in any case.

So a check may hang, crash in a library or raise: what it found before is kept, the others don't see
it, and nobody sees a traceback.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from tempfile import TemporaryFile
from typing import IO

from recaffe.doctor.result import About, Finding
from recaffe.engines import preflight
from recaffe.errors import MachineError, RecaffeError

PATIENCE = 10.0  # seconds for a program to answer
LIMIT = 45.0  # and for a whole group, which may import PyTorch from a slow disk


@dataclass(frozen=True)
class Group:
    """`check` yields what it finds; `about` is what a message calls it."""

    about: str
    check: Callable[[About], Iterable[Finding]]


def run(groups: Sequence[Group], about: About, seconds: float = LIMIT) -> list[Finding]:
    """All findings, in the groups' order. What takes longer is a problem, and is ended."""
    deadline = time.monotonic() + seconds
    jobs = [_Job(group, about) for group in groups]
    try:
        return [finding for job in jobs for finding in job.findings(deadline, seconds)]
    finally:
        for job in jobs:
            job.end()


def ask(*command: str, env: dict[str, str] | None = None, seconds: float = PATIENCE) -> str:
    """What a program says on stdout. Raises `MachineError` if it is not there, fails or is slow."""
    # Files instead of pipes, which a child of a hanging script would keep open for ever.
    with TemporaryFile() as out, TemporaryFile() as err:
        try:
            status = subprocess.run(
                command, env=env, stdin=subprocess.DEVNULL, stdout=out, stderr=err, timeout=seconds,
                check=False,
            ).returncode  # fmt: skip
        except subprocess.TimeoutExpired:
            raise MachineError(
                f"{command[0]} doesn't answer within {seconds:.0f} seconds."
            ) from None
        except OSError as error:
            raise MachineError(f"{command[0]} can't be run: {error.strerror}.") from None
        said, wrong = map(_text, (out, err))
    if status:
        last = (wrong or said or "nothing").splitlines()[-1]
        raise MachineError(f"{command[0]} fails ({status}) and says: {last[:300]}")
    return said


def _text(file: IO[bytes]) -> str:
    file.seek(0)
    return file.read().decode("utf-8", "replace").strip()


class _Job:
    def __init__(self, group: Group, about: About) -> None:
        context = multiprocessing.get_context("fork")
        self.group = group
        self.ours, theirs = context.Pipe(duplex=False)
        self.process = context.Process(target=_work, args=(theirs, group, about), daemon=True)
        self.process.start()
        theirs.close()

    def findings(self, deadline: float, seconds: float) -> Iterator[Finding]:
        while True:
            if not self.ours.poll(max(0.0, deadline - time.monotonic())):
                said = f"no answer within {seconds:.0f} seconds: something hangs"
                yield Finding(self.group.about, "problem", said, "Look at it by hand.")
                return
            try:
                found = self.ours.recv()
            except EOFError:
                self.process.join()
                said = f"the check itself died (status {self.process.exitcode})"
                yield Finding(self.group.about, "problem", said, "Look at it by hand.")
                return
            if found is None:
                return
            yield found

    def end(self) -> None:
        """End the process and whatever it started."""
        if self.process.pid is not None:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self.process.pid, signal.SIGKILL)
        self.process.kill()
        self.process.join()
        self.ours.close()


def _work(found: Connection, group: Group, about: About) -> None:
    os.setsid()
    nowhere = os.open(os.devnull, os.O_RDWR)
    for fd in (0, 1, 2):
        os.dup2(nowhere, fd)
    preflight.patience = PATIENCE  # this process's alone
    try:
        for finding in group.check(about):
            found.send(finding)
    except Exception as error:  # a defect, or an odd machine: told like any other problem
        kind = "" if isinstance(error, RecaffeError) else f"{type(error).__name__}: "
        found.send(Finding(group.about, "problem", f"can't be checked: {kind}{error}"))
    found.send(None)
