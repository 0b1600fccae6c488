"""What follows from what was found."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from recaffe.cli import main
from recaffe.config import ROOT
from recaffe.doctor import (
    examine,
    ways,
)
from recaffe.doctor.result import Finding
from tests.unit.doctor.helpers import about


def test_the_ways_follow_from_what_was_found() -> None:
    names = [*ways._ALWAYS, "engine: torch", "docker", "image recaffe:cpu"]
    found = [Finding(name, "ok", "") for name in names]
    works = {w.command: w for w in ways.of(found, about(named=False), "c.yaml")}
    assert works["snakemake --cores N --configfile c.yaml"].works
    assert works["make run"].works and works["runtime: docker"].works
    assert works["engine: caffe"].lacks == ("engine: caffe", "pycaffe")
    assert works["--profile profiles/slurm"].lacks == ("SLURM", "SLURM plugin")


@pytest.mark.parametrize(
    ("run", "wants"),
    [
        ({"engine": "torch"}, {"engine: torch"}),
        ({"engine": "caffe"}, {"engine: caffe", "pycaffe"}),
        ({"engine": "torch", "device": "cuda"}, {"engine: torch", "GPU", "torch on the GPU"}),
        ({"engine": "caffe", "device": "cuda"}, {"GPU", "Caffe on the GPU"}),
        ({"runtime": "docker", "image": "i:1"}, {"docker", "image i:1", "docker with GPUs"}),
        ({"nodes": 2, "batch_size": 32}, {"SLURM", "SLURM plugin"}),
    ],
)
def test_a_config_wants_what_its_runs_use(run: dict[str, Any], wants: set[str]) -> None:
    assert wants <= set(ways.needed(about(**run)))
    if "device" not in run and "runtime" not in run:
        assert not {"GPU", "docker"} & set(ways.needed(about(**run)))
    quiet = about(runtime="docker", device="cpu")
    assert "docker with GPUs" not in ways.needed(quiet)


def test_a_problem_comes_with_what_to_do() -> None:
    found = [Finding("disk", "problem", "full\nreally", "Free some.")]
    shown = examine.lines(found, ways.of(found, about(), "c"))
    assert shown[0] == "problem  disk  full really"
    assert "→ Free some." in shown[1]
    assert any(line.startswith("  no   make run: lacks") for line in shown)


def test_a_config_that_is_wrong_is_one_message(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "c.yaml"
    file.write_text("dataset: d\nimages: x\nruns: {a: {}}\nengin: torch\n")
    assert main(["doctor", "--config", str(file)]) == 1
    assert "unknown key 'engin'" in capsys.readouterr().err


def test_this_machine_is_examined(class_folders: Path, tmp_path: Path) -> None:
    file = tmp_path / "own.yaml"
    given = {
        "dataset": "own",
        "images": str(class_folders),
        "train": {"engine": "torch", "threads": 1},
        "runs": {"a": {"weights": "none"}},
    }
    file.write_text(json.dumps(given))
    done = subprocess.run(
        [sys.executable, "-m", "recaffe", "doctor", "--json", "--config", str(file)],
        cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    said = json.loads(done.stdout)
    found = {f["name"]: f["state"] for f in said["findings"]}
    assert (
        found["Python"] == found["packages"] == found["engine: torch"] == found["pictures"] == "ok"
    )
    assert {"SLURM", "apptainer", "docker", "GPU", "engine: caffe", "memory", "disk"} <= set(found)
    assert set(found.values()) <= {"ok", "missing", "problem"}
    assert done.returncode == (0 if said["works"] else 1)
    assert "Traceback" not in done.stdout + done.stderr
