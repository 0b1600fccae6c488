"""The view of a workflow on terminals of all kinds, and through what can happen to it."""

from __future__ import annotations

import os
import re
import signal
import subprocess
from pathlib import Path

import pytest

from recaffe import status
from tests.terminal import Screen, Terminal
from tests.workflow.live import command, running, write

BOTH = "30 of 100 img"


def is_drawn(screen: Screen) -> bool:
    return screen.text.count(BOTH) == 2


def leftovers(folder: Path) -> list[Path]:
    return [*folder.rglob(".*.status.json*")]


def is_clean(terminal: Terminal) -> bool:
    """The view is gone, and nothing was said to the terminal that it may not know."""
    screen = terminal.screen
    return (
        BOTH not in screen.text and " jobs  0:" not in screen.text and screen.cursor_shown
        and not screen.unknown
    )  # fmt: skip


def test_ctrl_c_leaves_the_terminal_as_it_was_and_every_message_readable(tmp_path: Path) -> None:
    with running(tmp_path) as terminal:
        terminal.until(is_drawn)
        terminal.press(b"\x03")
        assert terminal.end() == 1
        assert is_clean(terminal)
        lines = terminal.screen.text.splitlines()
        assert lines.count("recaffe: Stopped. Run the same command again to go on.") == 2
        assert "Complete log(s):" in terminal.screen.text
    assert not leftovers(tmp_path)


def test_an_error_is_shown_in_full(tmp_path: Path) -> None:
    with running(tmp_path, "--config", "ends=ill", columns=60) as terminal:
        terminal.until(is_drawn)
        (tmp_path / "go").touch()
        assert terminal.end() == 1
        assert is_clean(terminal)
        whole = terminal.screen.text.replace(
            "\n", ""
        )  # a line that is too long goes on in the next
    assert f"recaffe: The picture {'x' * 150} can't be read." in whole
    assert "Error in rule make:" in whole
    assert "log: logs/one.log" in whole
    assert "At least one job did not complete successfully." in whole
    assert not leftovers(tmp_path)


@pytest.mark.parametrize("quiet", [["progress"], [], ["all"]], ids=["progress", "", "all"])
def test_quiet_is_quiet(tmp_path: Path, quiet: list[str]) -> None:
    with running(tmp_path, "--quiet", *quiet) as terminal:
        (tmp_path / "go").touch()
        assert terminal.end() == 0
        said = terminal.screen.text
        assert b"\x1b[J" not in terminal.raw
    assert "img" not in said
    assert "So far it goes well" not in said
    assert ("one has begun." in said) == (quiet != ["all"])
    assert "img" in (tmp_path / "logs" / "one.log").read_text(encoding="utf-8")
    assert not leftovers(tmp_path)


def test_quiet_about_rules_leaves_the_view(tmp_path: Path) -> None:
    with running(tmp_path, "--quiet", "rules") as terminal:
        terminal.until(is_drawn)
        (tmp_path / "go").touch()
        assert terminal.end() == 0
        assert "make one" not in terminal.screen.text


def test_a_dry_run_draws_nothing(tmp_path: Path) -> None:
    with running(tmp_path, "-n") as terminal:
        assert terminal.end() == 0
        assert b"\x1b[J" not in terminal.raw
        assert "This was a dry-run" in terminal.screen.text


@pytest.mark.parametrize("how", [{"TERM": "dumb"}, {"columns": 20}, {"rows": 4}, {"live": "false"}])
def test_lines_instead_of_a_view(tmp_path: Path, how: dict[str, object]) -> None:
    options = ("--config", f"live={how.pop('live')}") if "live" in how else ()
    with running(tmp_path, *options, **how) as terminal:
        (tmp_path / "go").touch()
        assert terminal.end() == 0
        assert b"\x1b[J" not in terminal.raw
        whole = terminal.screen.text.replace("\n", "")
    assert "make: 100 of 100 img" in whole
    assert "So far it goes well." in whole
    assert not leftovers(tmp_path)


def test_without_a_terminal_there_are_lines(tmp_path: Path) -> None:
    write(tmp_path)
    (tmp_path / "go").touch()
    done = subprocess.run(command(), cwd=tmp_path, capture_output=True, text=True, check=True)
    assert "make: 100 of 100 img" in done.stderr
    assert "\x1b" not in done.stderr + done.stdout
    assert done.stdout == "All of it is there.\n"
    assert not leftovers(tmp_path)


def test_verbose_keeps_all_that_snakemake_says(tmp_path: Path) -> None:
    with running(tmp_path, "--verbose") as terminal:
        terminal.until(is_drawn)
        (tmp_path / "go").touch()
        assert terminal.end() == 0
        assert is_clean(terminal)
        assert "Finished jobid: 1" in terminal.screen.text
        assert "Ready jobs: 2" in terminal.screen.text


def test_no_color_is_no_colour(tmp_path: Path) -> None:
    with running(tmp_path, "--nocolor") as terminal:
        terminal.until(is_drawn)
        (tmp_path / "go").touch()
        assert terminal.end() == 0
        assert not re.search(rb"\x1b\[[0-9;]*m", terminal.raw)


def test_ascii_where_the_terminal_has_no_more(tmp_path: Path) -> None:
    with running(tmp_path, PYTHONIOENCODING="ascii") as terminal:
        terminal.until(is_drawn)
        (tmp_path / "go").touch()
        assert terminal.end() == 0
        assert "done: make one" in terminal.screen.text
        assert terminal.raw.isascii()


@pytest.mark.parametrize("columns", [40, 200])
def test_a_terminal_that_changes_its_width(tmp_path: Path, columns: int) -> None:
    with running(tmp_path) as terminal:
        terminal.until(is_drawn)
        terminal.resize(columns, 24)
        (tmp_path / "go").touch()
        assert terminal.end() == 0
        assert "All of it is there." in terminal.screen.text
        assert is_clean(terminal)


def test_more_jobs_than_lines(tmp_path: Path) -> None:
    names = " ".join(f"n{i}" for i in range(6))
    with running(tmp_path, "--config", f"names={names}", "--cores", "6", rows=6) as terminal:
        terminal.until(lambda screen: "and 4 more" in screen.text)
        (tmp_path / "go").touch()
        assert terminal.end() == 0
        assert is_clean(terminal)


def test_stdout_elsewhere_gets_what_goes_there_and_no_view(tmp_path: Path) -> None:
    with (tmp_path / "out").open("wb") as out, running(tmp_path, stdout=out.fileno()) as terminal:
        terminal.until(is_drawn)
        (tmp_path / "go").touch()
        assert terminal.end() == 0
        assert "All of it is there." not in terminal.screen.text
    assert (tmp_path / "out").read_text(encoding="utf-8") == "All of it is there.\n"


def test_two_side_by_side(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    first.mkdir()
    second.mkdir()
    with running(first) as one, running(second) as other:
        one.until(is_drawn)
        other.until(is_drawn)
        for terminal, folder in ((one, first), (other, second)):
            (folder / "go").touch()
            assert terminal.end() == 0
            assert is_clean(terminal)


def test_a_killed_workflow_leaves_a_terminal_that_works(tmp_path: Path) -> None:
    with running(tmp_path) as terminal:
        terminal.until(is_drawn)
        os.kill(terminal.process.pid, signal.SIGKILL)
        terminal.end()
        assert terminal.screen.cursor_shown
    # What its jobs left is of no consequence for the next one.
    for name in ("one", "two"):
        file = status.file_of(tmp_path / "logs" / f"{name}.log")
        file.write_text('{"done": 99, "total": 100, "unit": "img"}', encoding="utf-8")
        (tmp_path / f"{name}.txt").unlink(missing_ok=True)
    (tmp_path / "go").unlink(missing_ok=True)
    subprocess.run(command("--unlock"), cwd=tmp_path, check=True, capture_output=True)
    with running(tmp_path, "--rerun-incomplete") as terminal:
        terminal.until(is_drawn)
        assert not any("99 of 100 img" in frame for frame in terminal.frames)
        (tmp_path / "go").touch()
        assert terminal.end() == 0
    assert not leftovers(tmp_path)


def test_status_files_that_cannot_be_written_or_read_cost_the_view_alone(tmp_path: Path) -> None:
    with running(tmp_path, "--config", "names=one") as terminal:
        folder = status.file_of(tmp_path / "logs" / "one.log")
        terminal.until(lambda screen: "make one" in screen.text)
        folder.unlink(missing_ok=True)
        folder.mkdir()
        (folder / "in the way").touch()
        (tmp_path / "go").touch()
        assert terminal.end() == 0
        assert (tmp_path / "one.txt").read_text(encoding="utf-8") == "done"
