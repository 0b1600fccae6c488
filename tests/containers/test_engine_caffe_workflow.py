"""A whole workflow on real photographs with both engines: the same accuracy, the same scores."""

from __future__ import annotations

import json
import statistics
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml

from recaffe.config import ROOT
from recaffe.engines import pick
from recaffe.engines.base import PredictJob
from recaffe.evaluate import predictions
from tests.containers.real_caffe import needs_caffe
from tests.workflow import running

pytestmark = needs_caffe
SEEDS = (1, 2, 3, 4, 5)
ENGINES = ("caffe", "torch")
CONFIG = {
    "dataset": "cells",
    "images": {"package": "elpv"},
    "resources": str(ROOT / "resources"),
    "split": {"val": 0.1, "test": 0.25, "seed": 1},
    "lmdb": {"width": 48, "height": 48, "gray": True},
    "baselines": {"linear": False},
    "train": {
        "net": "lenet", "weights": "none", "epochs": 6, "mean": "file", "threads": 1, "device": "cpu",
        "crop_size": 44, "base_lr": 0.01, "batch_size": 32, "lr_policy": "poly", "select": "last",
    },
    "runs": {f"{engine}{seed}": {"engine": engine, "seed": seed} for engine in ENGINES for seed in SEEDS},
}  # fmt: skip


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("cells")
    file = folder / "own.yaml"
    file.write_text(yaml.safe_dump(CONFIG, sort_keys=False), encoding="utf-8")
    running.ran(running.snakemake(file))
    yield folder / "results" / "cells"


def test_every_run_was_trained_by_its_own_engine(results: Path) -> None:
    for run in CONFIG["runs"]:
        note = json.loads((results / run / "train.json").read_text(encoding="utf-8"))
        log = (results / run / "train.log").read_text(encoding="utf-8")
        is_caffe = run.startswith("caffe")
        assert note["device"] == ("CPU, 1 threads (Caffe)" if is_caffe else "CPU, 1 threads")
        assert ("Opened lmdb" in log) == is_caffe, "Caffe alone says so"
        assert note["last_iteration"] == note["iteration"] > 200
        assert note["val_accuracy"] > 0.6
    assert not list((results / "data").rglob("lock.mdb"))
    assert (results / "report.html").stat().st_size > 10_000


def test_both_engines_have_the_same_accuracy_within_what_a_seed_makes(results: Path) -> None:
    top1 = {
        engine: [
            json.loads((results / f"{engine}{seed}/metrics.json").read_text(encoding="utf-8"))[
                "top1"
            ]
            for seed in SEEDS
        ]
        for engine in ENGINES
    }
    # Of the difference of two means of five; the pictures tested are the same ones.
    spread = statistics.fmean(statistics.variance(top1[e]) for e in ENGINES)
    error = (spread * 2 / len(SEEDS)) ** 0.5
    difference = abs(statistics.fmean(top1["caffe"]) - statistics.fmean(top1["torch"]))
    print(f"test accuracies {top1}, means apart {difference:.4f}, standard error {error:.4f}")
    assert min(top1["caffe"] + top1["torch"]) > 0.6, "the larger class alone is 0.4"
    # The floor: eleven of the 532 pictures.
    assert difference < max(3 * error, 0.02)


@pytest.mark.parametrize("trained_by", ENGINES)
def test_both_engines_score_every_picture_alike(results: Path, trained_by: str) -> None:
    run = results / f"{trained_by}1"
    task = PredictJob(
        run / "deploy.prototxt", run / "final.caffemodel", results / "data/test_lmdb", crop_size=44,
        scale=json.loads((run / "net.json").read_text(encoding="utf-8"))["scale"],
        mean_file=results / "data/mean.binaryproto", device="cpu", engine="caffe",
    )  # fmt: skip
    theirs, ours = pick.predict(task), pick.predict(replace(task, engine="torch"))
    assert np.abs(theirs.scores - ours.scores).max() < 1e-4
    assert theirs.keys == ours.keys
    assert np.array_equal(theirs.labels, ours.labels)
    table = predictions.read(run / "predictions.csv")
    assert (
        np.abs(table.probabilities - (theirs if trained_by == "caffe" else ours).scores).max()
        < 1e-5
    )


def test_a_second_run_does_nothing(results: Path) -> None:
    said = running.ran(running.snakemake(results.parents[1] / "own.yaml", "-n"))
    assert "Nothing to be done" in said


def test_without_a_caffe_nothing_starts_and_the_ways_out_are_told(tmp_path: Path) -> None:
    file = tmp_path / "own.yaml"
    file.write_text(yaml.safe_dump(CONFIG, sort_keys=False), encoding="utf-8")
    env = {**running.environment(), "CAFFE_HOME": str(tmp_path)}
    done = subprocess.run(
        running.command(file), capture_output=True, text=True, cwd=tmp_path, env=env, check=False
    )
    assert done.returncode != 0
    assert "engine: torch" in done.stdout + done.stderr
    assert not (tmp_path / "results").exists()
