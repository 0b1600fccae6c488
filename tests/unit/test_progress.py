"""What a job says of how far it is, and what the view makes of it."""

from __future__ import annotations

import json
import logging
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from snakemake.logging import logger
from snakemake_interface_logger_plugins.common import LogEvent

from recaffe import progress, status
from recaffe.live.handler import View
from recaffe.live.jobs import Jobs
from recaffe.live.table import Painter, clock, width_of
from tests.terminal import Terminal


@pytest.fixture
def log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The log of a job that has begun."""
    monkeypatch.setenv(status.FILE, "")  # restored at the end
    status.begin(tmp_path / "train.log")
    yield tmp_path / "train.log"
    status.end()


def said(log: Path) -> dict[str, object]:
    return json.loads(status.file_of(log).read_text(encoding="utf-8"))


def test_a_job_says_how_far_it_is_beside_its_log(log: Path) -> None:
    assert said(log) == {}
    with progress.bar(900, "train", "it", initial=300) as shown:
        assert said(log)["done"] == 300
        shown.update(12)
        shown.say(loss=0.5, lr=0.01)
    assert said(log) | {"rate": 0, "left": None} == {
        "done": 312, "total": 900, "unit": "it", "rate": 0, "left": None, "loss": 0.5, "lr": 0.01,
    }  # fmt: skip
    status.end()
    assert not [*log.parent.iterdir()]


def test_a_job_that_is_watched_leaves_its_last_word(
    log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(status.WATCHED, "1")
    with progress.bar(9, "x", "img") as shown:
        shown.update(9)
    status.end()
    assert said(log)["done"] == 9


def test_the_last_word_before_a_standstill_is_written_too(log: Path) -> None:
    with progress.bar(9, "x", "img") as shown:
        for _ in range(5):
            shown.update()
        deadline = time.monotonic() + 60
        while said(log)["done"] != 5:
            assert time.monotonic() < deadline
            time.sleep(0.01)


def test_a_status_that_cannot_be_written_stops_nothing(log: Path) -> None:
    file = status.file_of(log)
    file.unlink()
    file.mkdir()
    assert list(progress.progress(range(3), 3, "x", "img")) == [0, 1, 2]
    assert [*log.parent.iterdir()] == [file]


def test_another_process_speaks_for_a_job(log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    inside = log.parent / "snapshots" / ".status.json"
    inside.parent.mkdir()
    status.lead_to(inside)
    outside = os.environ[status.FILE]
    monkeypatch.setenv(status.FILE, str(inside))
    with progress.bar(9, "x", "img", initial=4):
        pass
    assert said(log)["done"] == 4
    monkeypatch.setenv(status.FILE, outside)


def test_lines_come_where_there_is_no_bar_and_not_where_it_is_quiet(
    log: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    caller = log.parent / "caller"
    for quiet, heard in (("", True), ("progress", False), ("all", False)):
        with caller.open("wb") as file:
            monkeypatch.setenv("RECAFFE_TTY", str(file.fileno()))
            monkeypatch.setenv(status.QUIET, quiet)
            list(progress.progress(range(5), 5, "scan", "img"))
            progress.relay("train a: iteration 3 of 9, loss 1\n", "train a")
        assert ("scan: 5 of 5 img" in caller.read_text()) is heard
        assert ("train a: iteration 3" in caller.read_text()) is heard
        assert capfd.readouterr().err.count("5 of 5") == 1


@pytest.mark.parametrize("content", ["", "{", "[1]", '{"done": "x", "total": null}', "\x00"])
def test_a_status_that_says_nothing_is_taken_for_none(tmp_path: Path, content: str) -> None:
    file = status.file_of(tmp_path / "x.log")
    jobs = started(tmp_path)
    file.write_text(content, encoding="utf-8")
    (head, line) = Painter("pets", False, "utf-8").lines(jobs, 100, 20)
    assert head.startswith("pets") and "0 of 4 jobs" in head
    assert line.split() == ["train", "a", "0:00"]


def started(folder: Path, **more: bool) -> Jobs:
    jobs = Jobs()
    jobs.plan({"train": 3, "all": 1, "total": 4})
    jobs.start(1, "train", ["a"], [str(folder / "x.log")], **{"local": True, **more})
    return jobs


def write(folder: Path, **values: object) -> None:
    status.file_of(folder / "x.log").write_text(json.dumps(values), encoding="utf-8")


def test_a_line_has_all_that_a_training_says(tmp_path: Path) -> None:
    jobs = started(tmp_path)
    write(
        tmp_path, done=312, total=900, unit="it", rate=3.0, left=196.0, loss=0.2134, lr=0.001,
        val_accuracy=0.931, images_per_second=240.4, epoch=3.47,
    )  # fmt: skip
    (head, line) = Painter("pets", False, "utf-8").lines(jobs, 120, 20)
    assert re.fullmatch(r"pets +0 of 4 jobs  0:00  about \d+:\d\d left", head)
    for word in ("train a", "35%", "3:1", "312 of 900 it", "loss 0.213", "val 93.1%", "240 img/s"):
        assert word in line, word
    assert line.endswith("epoch 3.5  lr 0.001")


@pytest.mark.parametrize("columns", [29, 40, 75, 76, 100, 250])
@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
def test_lines_fit_the_terminal(tmp_path: Path, columns: int, encoding: str) -> None:
    jobs = started(tmp_path)
    jobs.start(2, "lmdb_shard", ["日本語の長い名前" * 9, "7"], [], local=True)
    write(tmp_path, done=1, total=9, unit="it", rate=1.0, left=8.0, loss=1.0, val_accuracy=0.5)
    lines = Painter("pets" * 30, True, encoding).lines(jobs, columns, 20)
    assert len(lines) == 3
    assert all(width_of(line) <= columns for line in lines)
    assert re.sub(r"\x1b\[[0-9;]*m", "", "".join(lines)).isprintable()


def test_more_jobs_than_rows_are_counted(tmp_path: Path) -> None:
    jobs = started(tmp_path)
    for number in range(2, 30):
        jobs.start(number, "lmdb", [str(number)], [], local=True)
    lines = Painter("pets", False, "utf-8").lines(jobs, 80, 10)
    assert len(lines) == 9
    assert lines[-1].strip() == "and 22 more"


def test_a_clusters_job_waits_until_it_says_something(tmp_path: Path) -> None:
    jobs = started(tmp_path, local=False)
    painter = Painter("pets", False, "utf-8")
    assert painter.lines(jobs, 80, 20)[1].split() == ["train", "a", "queued"]
    write(tmp_path)
    assert painter.lines(jobs, 80, 20)[1].split() == ["train", "a", "0:00"]


def test_the_time_left_counts_what_is_to_come(tmp_path: Path) -> None:
    jobs = started(tmp_path)
    assert str(jobs.left(jobs.running())) == "nan"
    write(tmp_path, done=1, total=2, unit="it", rate=0.01, left=100.0)
    # Two more trainings, each like the one that runs.
    assert jobs.left(jobs.running()) == pytest.approx(300, abs=5)


def test_a_new_job_has_nothing_of_what_an_older_one_left(tmp_path: Path) -> None:
    write(tmp_path, done=1, total=2, unit="it")
    jobs = started(tmp_path)
    assert not [*tmp_path.iterdir()]
    write(tmp_path, done=2, total=2, unit="it", loss=0.5)
    job = jobs.finish(1)
    assert job is not None
    assert job.said["loss"] == 0.5
    assert jobs.done == 1
    assert not [*tmp_path.iterdir()]


def test_a_failed_job_is_to_come_again(tmp_path: Path) -> None:
    jobs = started(tmp_path)
    jobs.fail(1)
    assert jobs.running() == [] and jobs.done == 0
    jobs.fail(1)
    assert jobs.finish(1) is None


def test_clock() -> None:
    assert [clock(s) for s in (0, 59.6, 3661, float("nan"))] == ["0:00", "1:00", "1:01:01", "?"]


def test_a_snakemake_that_says_it_otherwise_costs_the_view_alone(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(logger, "handlers", [])
    monkeypatch.setenv(status.QUIET, "progress")
    view = View(Painter("pets", False, "utf-8"), {LogEvent.JOB_INFO}, says_jobs=True)
    logger.addHandler(view)
    record = logging.LogRecord("x", logging.INFO, "x", 1, "x", None, None)
    record.event = LogEvent.RUN_INFO  # without what it says
    view.handle(record)
    assert logger.handlers == []
    assert "There is no live view with this Snakemake" in capsys.readouterr().err
    assert status.QUIET not in os.environ


HAND = """
import sys
from recaffe.progress import bar, progress, line
for i in progress(range(40), 40, "verify", "img"):
    if i == 20:
        print("a message", file=sys.stderr)
with bar(10, "train", "it") as shown:
    shown.say(loss=0.25)
    shown.update(10)
"""


def test_by_hand_there_is_a_bar_below_what_is_said(tmp_path: Path) -> None:
    terminal = Terminal([sys.executable, "-c", HAND], tmp_path, columns=90)
    try:
        assert terminal.end() == 0
        text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", terminal.raw.decode())
        assert "a message" in text
        assert "40/40 img" in text
        assert "loss 0.25" in text
        assert "s left" not in text
        assert terminal.raw.count(b"\x1b[?25h") >= terminal.raw.count(b"\x1b[?25l")
    finally:
        terminal.close()


def test_without_a_terminal_there_is_no_bar(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", HAND], capture_output=True, text=True, check=True)
    assert "\x1b" not in done.stderr
    assert "verify: 40 of 40 img" in done.stderr
