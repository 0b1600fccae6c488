"""Snakemake's notes go along with results that were moved, also those of steps that were killed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from recaffe import records


def note(folder: Path, output: str, text: str) -> Path:
    path = records._file(folder, output)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def move(*names: str) -> str:
    """results/own with these files is now moved/own; returns what is said of it."""
    Path("moved/own").mkdir(parents=True)
    for name in names:
        Path("moved/own", name).write_text("x", encoding="utf-8")
    Path("moved/own/.home").write_text("results/own\n", encoding="utf-8")
    return records.settle("moved/own", ["moved/own/report.html"], "moved/own/inventory.csv")


def test_the_mark_of_a_step_that_was_killed_goes_along(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    whole = json.dumps({"input": ["results/own/a", "pics/b"], "log": ["results/own/x.log"]})
    note(records._NOTES, "results/own/mean", whole)
    note(records._STARTED, "results/own/model", '{"external_jobid": null}')
    note(records._STARTED, "results/other/model", "{}")
    assert "its 1 notes go with it" in move()
    found = {key: path for f in (records._NOTES, records._STARTED) for path, key in records._notes(f)}  # fmt: skip
    assert set(found) == {"moved/own/mean", "moved/own/model", "results/other/model"}
    text = json.loads(found["moved/own/mean"].read_text(encoding="utf-8"))
    assert text["input"] == ["moved/own/a", "pics/b"]
    assert text["log"] == ["moved/own/x.log"]


@pytest.mark.parametrize("half", ["", '{"input": ["results/own'])
def test_a_note_that_a_kill_left_half_written_is_none(
    half: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    note(records._NOTES, "results/own/report.html", half)
    said = move("report.html", "inventory.csv")
    assert "no note of how it was made" in said, "and so all is made anew"
