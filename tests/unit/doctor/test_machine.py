"""Python, disk and memory, as `recaffe doctor` sees them."""

from __future__ import annotations

import errno
import fcntl
import os
from pathlib import Path
from typing import Any

import pytest

from recaffe.doctor import (
    disk,
    memory,
    python,
)
from tests.unit.doctor.helpers import about, by_name


def test_packages_that_lack_or_differ_from_the_pins_are_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert all(f.ok for f in python.check(about()) if f.name in ("Python", "packages"))
    real = python.metadata.distributions

    class Other:
        name, version = "numpy", "1.0"

    def changed() -> list[Any]:
        kept = [d for d in real() if d.name not in ("lmdb", "numpy")]
        return [*kept, Other()]

    monkeypatch.setattr(python.metadata, "distributions", changed)
    said = by_name(python.check(about()))
    assert said["packages"].state == "missing" and "lmdb" in said["packages"].said
    assert said["pins"].state == "problem" and "numpy 1.0 (pinned " in said["pins"].said
    assert "make setup" in said["pins"].todo


def test_another_python_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(python.sys, "version_info", (3, 9, 1))
    said = by_name(python.check(about()))["Python"]
    assert said.state == "problem" and "3.9.1" in said.said and "3.11" in said.said


def test_a_disk_is_tried_and_left_as_it_was(tmp_path: Path) -> None:
    it = about()
    it.config["results"] = str(tmp_path / "not" / "yet")
    said = by_name(disk.check(it))
    assert said["file locks"].ok and said["hard links"].ok
    assert str(tmp_path) in said["disk"].said
    assert not list(tmp_path.iterdir())


def test_a_disk_without_room_locks_or_links_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    it = about()
    it.config["results"] = str(tmp_path)
    monkeypatch.setattr(disk, "free_space", lambda path: 10**8)
    monkeypatch.setattr(fcntl, "flock", refuse)
    monkeypatch.setattr(os, "link", refuse)
    said = by_name(disk.check(it))
    assert [said[n].state for n in ("disk", "file locks", "hard links")] == [
        "problem", "problem", "missing",
    ]  # fmt: skip
    assert "No locks available" in said["file locks"].said
    monkeypatch.setattr(disk, "TemporaryDirectory", refuse)
    assert [f.state for f in disk.check(it)] == ["problem"]


def test_pictures_are_counted_and_must_have_room(
    class_folders: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    it = about(images=str(class_folders))
    (said,) = disk.pictures(it)
    assert said.ok and "120 in 3 classes; their records take about 0.0 GB" in said.said
    it.config["split"]["folds"] = 50
    (said,) = disk.pictures(it)
    assert "records of 50 folds take about 1.2 GB" in said.said
    monkeypatch.setattr(disk, "free_space", lambda path: 10**6)
    (said,) = disk.pictures(it)
    assert said.state == "problem" and "lmdb.encoded" in said.todo
    (said,) = disk.pictures(about(images="nowhere"))
    assert said.state == "problem" and "recaffe init" in said.todo
    assert not list(disk.pictures(about(named=False, images="nowhere")))


def test_little_memory_and_more_threads_than_cores_are_problems(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(memory, "free_memory", lambda: 64 * 10**9)
    assert by_name(memory.check(about(threads=1)))["memory"].ok
    monkeypatch.setattr(memory, "free_memory", lambda: 5 * 10**8)
    said = by_name(memory.check(about(threads=1000)))
    assert said["memory"].state == "problem" and "0.5 GB" in said["memory"].said
    assert said["cores"].state == "problem" and "1000" in said["cores"].said
    monkeypatch.setattr(memory, "_SHM", Path("/nowhere"))
    assert by_name(memory.check(about()))["shared memory"].state == "missing"
