"""The same inputs give the same bytes, whatever the number of cores."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.workflow.faults.conftest import begin_runs
from tests.workflow.faults.small import Small

# All that may differ in report.html: the table of the steps' times, and a training's speed.
CLOCKED = re.compile(r'<h2 id="speed">.*?<h2 id="provenance">|\d+ pictures/s', re.DOTALL)


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


def test_the_report_differs_only_in_times_and_speeds(twice: tuple[Small, Small]) -> None:
    one, two = (
        CLOCKED.sub("", (small.results / "report.html").read_text("utf-8")) for small in twice
    )
    assert len(one) > 10_000
    assert one == two
    one, two = ((small.results / "summary.txt").read_text("utf-8") for small in twice)
    assert one == two
