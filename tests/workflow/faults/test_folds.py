"""A cross validation as a whole: run, stopped, changed, turned off."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import time
from pathlib import Path

import pytest

from recaffe.cli import main
from recaffe.evaluate import predictions
from tests.workflow import running
from tests.workflow.faults.small import Small, of_run

FOLDS = {"folds": 3, "val": 0.2}


def begin(folder: Path, root: Path) -> Small:
    small = Small.begin(folder, runs={"first": {"seeds": 2}})
    small.root = root
    small.change(split=FOLDS)
    return small


@pytest.fixture(scope="module")
def finished_folds(tmp_path_factory: pytest.TempPathFactory, clone: Path) -> Small:
    """Three folds of two seeds; not to be changed."""
    small = begin(tmp_path_factory.mktemp("folds"), clone)
    small.run(cores=2)
    return small


def test_every_picture_is_tested_once_and_the_numbers_are_of_all(
    finished_folds: Small, capsys: pytest.CaptureFixture[str]
) -> None:
    small = finished_folds
    found = json.loads((small.results / "folds.json").read_text(encoding="utf-8"))
    for run in ("first_seed1", "first_seed2"):
        paths = [
            path
            for fold in found["folds"]
            for path in predictions.read(small.results / fold / run / "predictions.csv").paths
        ]
        assert sorted(paths) == sorted(f"{c}/{i:02d}.png" for c in "abc" for i in range(12))
        assert found["runs"][run]["n"] == 36
    assert found["groups"][0]["accuracy"]["n"] == 2
    summary = (small.results / "summary.txt").read_text(encoding="utf-8")
    assert summary in small.said
    assert re.search(r"N = 36\); over 3 folds 0\.\d{3} ± 0\.\d{3}; first, 2 seeds 0\.", summary)
    report = (small.results / "report.html").read_text(encoding="utf-8")
    for word in ("3-fold cross validation", 'href="fold3/report.html"', "each tested once"):
        assert word in report, word
    assert "fold 2 of 3" in (small.results / "fold2" / "report.html").read_text(encoding="utf-8")
    assert main(["verify", str(small.results.parent)]) == 0
    assert "fold3: no problems" in capsys.readouterr().err
    assert small.plan() == {}


def test_a_seed_that_is_added_trains_nothing_else(finished_folds: Small, tmp_path: Path) -> None:
    small = finished_folds.copy(tmp_path / "copy")
    small.change(runs={"first": {"seeds": [2, 7, 1]}})
    once = dict.fromkeys(("patch", "solver", "train", "predict", "metrics", "model", "report"), 3)
    assert {**small.plan(), **once} == small.plan()
    assert small.plan().keys() - once.keys() <= {"folds", "heat_maps"}


def test_a_changed_picture_trains_where_it_trained(finished_folds: Small, tmp_path: Path) -> None:
    small = finished_folds.copy(tmp_path / "copy")
    [tested] = [
        fold
        for fold in ("fold1", "fold2", "fold3")
        if "a/03.png" in (small.results / fold / "data" / "test.txt").read_text(encoding="utf-8")
    ]
    # Its twin: another content in the same folds.
    (small.folder / "pics" / "a" / "03.png").rename(small.folder / "pics" / "a" / "other.png")
    ran = small.run(cores=2)
    assert {"scan", "split:fold1", f"split:{tested}", "folds"} <= ran
    assert small.said.count("was seen before") + small.said.count("were seen before") == 1
    again = re.findall(r"train (fold\d) first_seed1 goes on from its last", small.said)
    assert again == [tested], "there it is no training picture"
    fresh = small.without_results(tmp_path / "fresh")
    fresh.run(cores=2)
    assert small.artifacts() == fresh.artifacts()


def test_a_stopped_cross_validation_goes_on(finished_folds: Small, tmp_path: Path) -> None:
    small = finished_folds.without_results(tmp_path / "copy")
    command = running.command(small.file, root=small.root)
    with subprocess.Popen(
        command, cwd=small.folder, env=running.environment(), stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True,
    ) as first:  # fmt: skip
        deadline = time.monotonic() + 600
        while time.monotonic() < deadline and first.poll() is None:
            if any(small.results.glob("fold*/first_seed*/snapshots/*/train.log")):
                break
            time.sleep(0.05)
        os.killpg(first.pid, signal.SIGINT)
        said, _ = first.communicate(timeout=600)
    assert first.returncode != 0, said
    assert "folds" in small.run(cores=2)
    assert small.artifacts() == finished_folds.artifacts()
    assert small.plan() == {}


def test_folds_use_the_scan_that_was_made_without_them(finished: Small, tmp_path: Path) -> None:
    small = finished.copy(tmp_path / "copy")
    before = small.artifacts()
    small.change(split={"folds": 2})
    ran = small.run(cores=2)
    assert "scan" not in ran and "train:fold2:first" in ran
    assert main(["verify", str(small.results)]) == 0
    small.change(split={"folds": 0})
    assert small.run() == {"report"}
    assert not of_run("first", "train") & small.run()
    assert small.artifacts() == before
    assert not (small.results / "folds.json").exists()
    assert main(["verify", str(small.results)]) == 0
