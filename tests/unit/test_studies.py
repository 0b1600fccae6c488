"""Configs for published picture sets are ready for whoever has the pictures."""

from __future__ import annotations

import csv
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from scipy.io import savemat

from bench import study
from recaffe import config, solver
from recaffe.errors import DataError
from recaffe.images import inventory
from recaffe.packages import oxford102
from tests.conftest import save, texture

STUDIES = config.ROOT / "config" / "studies"


def test_each_study_is_a_config_of_its_own() -> None:
    names = [config.load(file)["dataset"] for file in STUDIES.glob("*.yaml")]
    assert len(set(names)) == len(names) == len(study.STUDIES) + 2


@pytest.mark.parametrize("name", study.STUDIES)
def test_a_study_has_three_seeds_of_each_way_by_both_engines(name: str) -> None:
    seeds: dict[tuple[str, str], list[int]] = {}
    for run in config.load(STUDIES / f"{name}.yaml")["runs"].values():
        seeds.setdefault((study.way(run), run["engine"]), []).append(run["seed"])
        assert run["net"] == ("lenet" if name.endswith("lenet") else "squeezenet_v1.1")
    ways = (
        ["from scratch"] if name.endswith("lenet") else ["whole net", "head alone", "from scratch"]
    )
    assert seeds == {(w, e): [1, 2, 3] for w in ways for e in ("torch", "caffe")}


def test_the_table_says_mean_and_sample_deviation_of_the_seeds() -> None:
    common = {"pictures": "p", "net": "n", "way": "whole net", "train": 8, "val": 1, "test": 4, "split": "s",
              "side": 9, "iterations": 5, "batch": 2}  # fmt: skip
    rows = [
        {**common, "engine": engine, "test_accuracy": a, "cpu_seconds": 10 * a}
        for engine, values in (("torch", (0.5, 0.75, 0.625)), ("caffe", (0.25,)))
        for a in values
    ]
    line = study.table(rows).splitlines()[-1]
    assert (
        line
        == "| p | 8 / 1 / 4 | s | n | whole net | 9 | 5 × 2 | 62.5 ± 12.5 (3) | 6 | 25.0 (1) | 2 |"
    )


@pytest.fixture
def flowers(tmp_path: Path) -> Path:
    """Twelve pictures of three classes, laid out as Oxford-102 is."""
    savemat(tmp_path / "imagelabels.mat", {"labels": np.arange(12, dtype=np.uint8)[None] % 3 + 1})
    sets = {"trnid": [12, 2, 7], "valid": [1, 5, 9], "tstid": [3, 4, 6, 8, 10, 11]}
    savemat(tmp_path / "setid.mat", {k: np.array([v], np.uint16) for k, v in sets.items()})
    for i in range(1, 13):
        save(texture(i), tmp_path / "jpg" / f"image_{i:05d}.jpg")
    return tmp_path


@pytest.mark.parametrize(("name", "records"), [("oxford102", 1020), ("flickr_style", 61_000)])
def test_a_published_study_keeps_the_recipe_behind_its_figures(name: str, records: int) -> None:
    full = config.load(STUDIES / f"{name}.yaml")
    assert full["dataset"] == name
    for run in full["runs"].values():
        plan = solver.schedule(run, records)
        assert abs(plan.stepsize - 20_000) < 20
        assert run["head_lr_mult"] == [10, 20]


def test_the_official_split_becomes_a_table(flowers: Path) -> None:
    assert oxford102.write_table(flowers) == {"train": 3, "val": 3, "test": 6}
    with (flowers / "pictures.csv").open(encoding="utf-8", newline="") as f:
        rows = {row["path"]: (row["label"], row["split"]) for row in csv.DictReader(f)}
    assert len(rows) == 12
    assert rows["jpg/image_00012.jpg"] == ("003", "train")
    assert rows["jpg/image_00001.jpg"] == ("001", "val")
    images = {
        **config.load(STUDIES / "oxford102.yaml")["images"],
        "path": str(flowers / "pictures.csv"),
    }
    found, labels = inventory.list_pictures(images)
    assert labels == ["001", "002", "003"]
    assert {item.split for item in found} == {"train", "val", "test"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f: (f / "setid.mat").unlink(), "There is no .*setid.mat"),
        (lambda f: (f / "setid.mat").write_bytes(b"<html>"), "setid.mat isn't MATLAB's file"),
        (lambda f: savemat(f / "imagelabels.mat", {"labels": [[1, 2]]}), "names picture 12"),
        (lambda f: savemat(f / "setid.mat", {k: [[1]] for k in ("trnid", "valid", "tstid")}), "two sets"),
        (lambda f: (f / "jpg").rename(f / "elsewhere"), "There is no .*jpg"),
    ],
)  # fmt: skip
def test_a_download_that_is_not_whole_is_a_message(change, message: str, flowers: Path) -> None:
    change(flowers)
    with pytest.raises(DataError, match=message):
        oxford102.write_table(flowers)
    command = [sys.executable, "-m", "recaffe.packages.oxford102", str(flowers)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1 and done.stderr.startswith("recaffe: ")
    assert not (flowers / "pictures.csv").exists()
