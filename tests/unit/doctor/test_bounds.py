"""A check that hangs or dies is told, and the others stay."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from recaffe.doctor import (
    bounded,
)
from recaffe.doctor.bounded import Group
from recaffe.doctor.result import About, Finding
from recaffe.errors import MachineError
from recaffe.files import is_alive
from tests.unit.doctor.helpers import Program, about, by_name


def test_a_check_that_hangs_dies_or_raises_is_told_and_the_others_stay(tmp_path: Path) -> None:
    pid = tmp_path / "pid"

    def hangs(_: About) -> Iterator[Finding]:
        yield Finding("before", "ok", "found in time")
        child = subprocess.Popen(["sleep", "600"])
        pid.write_text(str(child.pid))
        time.sleep(600)

    def dies(_: About) -> Iterator[Finding]:
        os.kill(os.getpid(), signal.SIGKILL)
        yield Finding("never", "ok", "")

    def raises(_: About) -> Iterator[Finding]:
        yield Finding("half", "ok", "")
        raise ValueError("odd machine")

    def fine(_: About) -> Iterator[Finding]:
        yield Finding("fine", "ok", "")

    groups = [Group(f.__name__, f) for f in (dies, raises, fine, hangs)]
    found = bounded.run(groups, about(), seconds=2)
    assert [(f.name, f.state) for f in found] == [
        ("dies", "problem"), ("half", "ok"), ("raises", "problem"), ("fine", "ok"), ("before", "ok"),
        ("hangs", "problem"),
    ]  # fmt: skip
    said = by_name(found)
    assert "within 2 seconds" in said["hangs"].said
    assert "-9" in said["dies"].said
    assert "ValueError: odd machine" in said["raises"].said
    orphan = Path(f"/proc/{pid.read_text()}/stat")
    for _ in range(500):  # a killed one may wait for init to take it
        if not orphan.exists() or orphan.read_text().split()[2] == "Z":
            return
        time.sleep(0.01)
    pytest.fail(f"what the check had started is alive: {is_alive(int(pid.read_text()))}")


def test_a_program_that_hangs_fails_or_is_missing_is_one_message(program: Program) -> None:
    sleeps = program("sleeps", "/bin/sleep 600 & wait")
    fails = program("fails", "echo first >&2", "echo 'no such thing' >&2", "exit 3")
    with pytest.raises(MachineError, match="sleeps doesn't answer within 0 seconds"):
        bounded.ask(str(sleeps), seconds=0.2)
    with pytest.raises(MachineError, match=r"fails \(3\) and says: no such thing"):
        bounded.ask(str(fails))
    with pytest.raises(MachineError, match="nowhere can't be run"):
        bounded.ask("nowhere")
