"""The whole workflow in the CPU image by Apptainer, seen from inside: each job's own log says where it ran."""

from __future__ import annotations

import re
import signal
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from recaffe.config import ROOT
from tests.containers.conftest import run
from tests.faults.started import PATIENCE, started
from tests.workflow import running
from tests.workflow.faults.small import Small, everything, of_run, write_pictures, write_weights

SPELLINGS = (
    ("--use-singularity",),
    ("--software-deployment-method", "apptainer"),
    ("--profile", str(ROOT / "profiles" / "gpu")),
)


def begin(folder: Path, pictures: Path) -> Small:
    """A workflow whose pictures lie elsewhere, with a run that starts from given weights."""
    write_pictures(pictures)
    folder.mkdir()
    write_weights(folder / "start.caffemodel", 1)
    given = {"weights": "start.caffemodel", "unmatched": ["fc"]}
    return Small.begin(folder, str(pictures), runs={"first": {}, "given": given})


@pytest.fixture(scope="module")
def inside(sif: Path, tmp_path_factory: pytest.TempPathFactory) -> Small:
    """Run in the SIF, which sees nothing but what the workflow itself shows it, not even /tmp."""
    folder = tmp_path_factory.mktemp("inside")
    small = begin(folder / "a folder", folder / "pictures")
    ran = small.run(
        "--use-singularity", "--config", f"container={sif}", "--apptainer-args=--contain", cores=2
    )
    assert everything("first", "given") | of_run("given", "linear") <= ran
    return small


def logs(small: Small) -> dict[str, list[str]]:
    found = sorted(small.results.glob("**/logs/*.log"))
    return {str(f.relative_to(small.results)): f.read_text().splitlines() for f in found}


def test_every_job_ran_in_the_image_on_the_images_packages(
    inside: Small, marker: dict[str, Any]
) -> None:
    found = logs(inside)
    ran = {f.stem for f in inside.results.glob("**/benchmarks/*.tsv")}
    assert {Path(name).stem for name in found} == ran
    first = f"In the image {marker['image']}, commit {marker['commit']}."
    assert {name: lines[:1] for name, lines in found.items()} == {name: [first] for name in found}
    assert not [name for name, lines in found.items() if "Not from the image" in lines[-1]]


def test_every_rule_has_the_image() -> None:
    for file in (ROOT / "rules").glob("*.smk"):
        text = file.read_text(encoding="utf-8")
        rules = re.findall(r"^ *rule (\w+):", text, re.MULTILINE)
        images = re.findall(r"^ *container:\n +CONTAINER$", text, re.MULTILINE)
        assert len(images) == len(rules), file


def test_results_are_those_of_a_run_outside(inside: Small, tmp_path: Path) -> None:
    outside = inside.without_results(tmp_path / "outside")
    outside.run(cores=2)
    assert inside.artifacts() == outside.artifacts()
    assert all("In the image" not in lines[0] for lines in logs(outside).values() if lines)


@pytest.mark.parametrize("spelling", SPELLINGS, ids=lambda words: words[-1].rpartition("/")[2])
def test_every_spelling_means_the_same_image(
    inside: Small, sif: Path, tmp_path: Path, spelling: tuple[str, ...]
) -> None:
    small = inside.copy(tmp_path / "copy")
    options = (*spelling, "--config", f"container={sif}")
    assert small.run(*options) == set()
    assert small.run(*options, "--forcerun", "metrics", "--until", "metrics") == {
        "metrics:first", "metrics:given",
    }  # fmt: skip
    assert logs(small)["first/logs/metrics.log"][0].startswith("In the image recaffe:cpu")


def test_a_package_of_the_host_is_named_in_the_log(sif: Path, tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(
        "from recaffe.script import script\nwith script(snakemake.log[0]):\n    import xdist\n"
    )
    (tmp_path / "Snakefile").write_text(
        f'rule all:\n    log: "x.log"\n    container: "{sif}"\n    script: "script.py"\n'
    )
    run(
        [sys.executable, "-m", "snakemake", "--cores", "1", "--use-singularity", "--directory", tmp_path,
         "--snakefile", tmp_path / "Snakefile"],
        cwd=tmp_path,
    )  # fmt: skip
    last = (tmp_path / "x.log").read_text().splitlines()[-1]
    assert last.startswith("Not from the image: ")
    assert "xdist" in last


def test_a_missing_image_is_one_message_with_the_way_out(tmp_path: Path) -> None:
    small = Small.begin(tmp_path / "small")
    options = ("--use-singularity", "--config", "container=/nowhere/recaffe.sif")
    running.refused(small.file, "/nowhere/recaffe.sif", "make images", options=options)


def test_ctrl_c_reaches_a_training_in_the_image(inside: Small, sif: Path, tmp_path: Path) -> None:
    small = inside.without_results(tmp_path / "stopped")
    small.change(train={"epochs": 100000, "snapshot_epochs": 100000}, runs={"first": {}})
    snapshots = small.results / "first" / "snapshots"
    deadline = time.monotonic() + PATIENCE
    with started(small, "--use-singularity", "--config", f"container={sif}") as run:
        # Before its first step there is nothing to save.
        stepped = re.compile(r"Iteration [1-9]\d* \(")
        while not any(stepped.search(f.read_text()) for f in snapshots.glob("*/train.log")):
            assert run.process.poll() is None, run.said
            assert time.monotonic() < deadline
            time.sleep(0.1)
        run.send(signal.SIGINT, "all", 0)
        assert run.process.wait(PATIENCE) != 0
        assert "Run the same command again" in run.said
    assert list(snapshots.glob("*/*.solverstate"))
