"""The same inputs give the same bytes, whatever the number of cores."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from tests.workflow.faults.conftest import begin_runs
from tests.workflow.faults.small import Small, digest, without_clock

TIMES = ("benchmarks", "logs")  # of the steps
DATES = (".files_cache.csv", ".inventory_cache.csv")  # of the user's files
# Head and speed of a line in Caffe's log.
STAMPED = re.compile(r"^I\d{4} [\d:.]+ +\d+ |\([\d.e+]+ iter/s, [\d.e-]+s/", re.MULTILINE)
# All that may differ in report.html: the table of the steps' times, and a training's speed.
CLOCKED = re.compile(r'<section id="speed">.*?<section id="provenance">|\d+ pictures/s', re.DOTALL)


@pytest.fixture(scope="module")
def twice(tmp_path_factory: pytest.TempPathFactory, clone: Path) -> tuple[Small, Small]:
    """Two full runs from nothing, with one core and with two; each training has one thread."""
    both = []
    for cores in (1, 2):
        small = begin_runs(tmp_path_factory.mktemp("cores"), clone)
        runs = small.config["runs"]
        small.change(runs=None)
        small.change(runs={name: runs[name] for name in ("plain", "poly", "weights")})
        small.run(cores=cores)
        both.append(small)
    return both[0], both[1]


def test_every_artifact_has_the_same_bytes_from_one_core_and_from_two(
    twice: tuple[Small, Small],
) -> None:
    one, two = (small.artifacts() for small in twice)
    assert one == two
    assert len([name for name in one if name.endswith("final.caffemodel")]) == 3


def test_every_file_has_the_same_bytes_but_for_what_the_clock_says(
    twice: tuple[Small, Small],
) -> None:
    one, two = (
        {
            str(path.relative_to(small.results)): content(path)
            for path in small.results.rglob("*")
            if path.is_file() and path.parent.name not in TIMES and path.name not in DATES
        }
        for small in twice
    )
    assert one.keys() == two.keys()
    assert {name for name in one if one[name] != two[name]} == set()
    assert len([name for name in one if name.endswith(".solverstate")]) >= 3


def content(path: Path) -> Any:
    """What of a file must not differ: all of it, for most."""
    if path.name in ("train.csv", "runs.csv"):
        return without_clock(path)
    if path.name == "train.log":
        return STAMPED.sub("", path.read_text("utf-8"))
    if path.name == "report.html":
        return CLOCKED.sub("", path.read_text("utf-8"))
    if path.name == "records.txt":  # which says what LMDB's file it was written for
        header, _, body = path.read_text("utf-8").partition("\n")
        return {k: v for k, v in json.loads(header).items() if k != "file"}, body
    if path.name == "train.json" or (
        path.parent.parent.name == "snapshots" and path.suffix == ".json"
    ):
        note = json.loads(path.read_text("utf-8"))
        return {
            k: v for k, v in note.items() if k not in ("images_per_second", "seconds", "checksum")
        }
    if (
        path.name == "SHA256SUMS"
    ):  # of files with a clock in them, which are compared above; and of itself
        clocked = ("runs.csv", "train.csv", "train.log", "train.json", "report.html")
        lines = path.read_text("utf-8").splitlines()
        return [x for x in lines if not x.endswith(clocked) and not x.startswith("#")]
    return digest(path)


def test_the_report_differs_only_in_times_and_speeds(twice: tuple[Small, Small]) -> None:
    one, two = (
        CLOCKED.sub("", (small.results / "report.html").read_text("utf-8")) for small in twice
    )
    assert len(one) > 10_000
    assert one == two
    one, two = ((small.results / "summary.txt").read_text("utf-8") for small in twice)
    assert one == two
