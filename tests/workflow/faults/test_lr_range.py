"""A test of rates beside a training changes nothing of it; with base_lr auto the training waits for it."""

from __future__ import annotations

import json
import re
from pathlib import Path

from tests.workflow import running
from tests.workflow.faults.small import Small, of_run

TESTED = {"lr_range_min": 1e-4, "lr_range_iters": 40}


def test_rates_are_tested_beside_a_training_and_then_taken(finished: Small, tmp_path: Path) -> None:
    small = finished.copy(tmp_path / "copy")
    before = small.artifacts()
    small.change(runs={"first": {"lr_range": True, **TESTED}})
    assert small.run() == {"lr_range:first", "report"}
    assert small.artifacts() == before
    report = (small.results / "report.html").read_text(encoding="utf-8")
    assert "Learning rates" in report
    proposed = json.loads((small.results / "first" / "lr_range.json").read_text())["base_lr"]
    assert f"base_lr {proposed:g}</b>; the training has 0.01" in report
    # The test stands; the training is another one.
    small.change(runs={"first": {"base_lr": "auto", **TESTED}})
    after = of_run("first") - of_run("first", "patch")
    assert small.run() == after | {"report"}
    solver = (small.results / "first" / "solver.prototxt").read_text()
    assert re.search(rf"^base_lr: {proposed:g}$", solver, re.M)
    chain = json.loads((small.results / "first" / "provenance.json").read_text())
    made_from = {entry["file"]: entry["from"] for entry in chain["files"]}
    assert "first/lr_range.json" in made_from["first/solver.prototxt"]
    assert small.run() == set()
    small.change(runs={"first": {"base_lr": "auto", **TESTED, "lr_range_iters": 41}})
    assert small.plan() == dict.fromkeys(
        ("lr_range", *(r.split(":")[0] for r in after), "report"), 1
    )


def test_a_rate_that_nothing_proposes_stops_the_workflow(finished: Small, tmp_path: Path) -> None:
    small = finished.copy(tmp_path / "copy")
    narrow = {"lr_range_min": 1e-12, "lr_range_max": 1e-11, "lr_range_iters": 20}
    small.change(runs={"first": {"base_lr": "auto", **narrow}})
    running.refused(small.file, "proposes no rate", "set base_lr to a number", root=small.root)
