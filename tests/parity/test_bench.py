"""The benches run, hold the results equal, and store what they measured. How fast is no test's business."""

from __future__ import annotations

import csv
import subprocess
import sys
from pathlib import Path

import pytest

from bench.measure import FIELDS, Row
from recaffe.config import ROOT


def test_a_ratio_is_the_others_time_by_ours() -> None:
    row = Row("s", "other", [1.0, 2.0, 4.0], [2.0, 8.0, 4.0], 2.0, "equal")
    assert row.ratios == [2, 4, 1]
    assert (row.cells()["ratio"], row.cells()["ratio_min"], row.cells()["ratio_max"]) == (
        "2",
        "1",
        "4",
    )
    assert row.line().endswith("target 2 met")
    assert Row("s", "other", [1.0], [1.5], 2.0, "").line().endswith("NOT MET")


@pytest.mark.parametrize("stage", ["data", "memory", "datalayer", "layers", "train"])
def test_a_quick_bench_runs_to_its_table(stage: str, tmp_path: Path) -> None:
    out = tmp_path / "out.csv"
    command = [sys.executable, "-m", "bench", stage, "--quick", "--runs", "1", "--out", str(out)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    lines = out.read_text(encoding="utf-8").splitlines()
    about = [line for line in lines if line.startswith("# ")]
    assert any(line.startswith("# processor: ") for line in about)
    rows = list(csv.DictReader(lines[len(about) :]))
    assert tuple(rows[0]) == FIELDS
    checked = {
        "data": "records equal, byte for byte",
        "memory": "",
        "datalayer": "",
        "layers": "the same 67 layers",
        "train": "scores equal",
    }[stage]
    assert checked in {row["checked"] for row in rows}
    assert all(float(row["ratio"]) > 0 for row in rows)
