"""Trackers of a workflow's trainings: through a Ctrl-C, and without a training of their own."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from mlflow.tracking import MlflowClient
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from recaffe.files import sha256
from tests.conftest import save, texture
from tests.terminal import Terminal
from tests.workflow.running import command, ran, snakemake
from tests.workflow.test_workflow import write_config

TRAINED = ("--until", "train")
EPOCHS = 60


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A config of one run that takes some seconds."""
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    for label in range(3):
        for i in range(20):
            save(texture(label * 100 + i, label), tmp_path / "pics" / f"c{label}" / f"{i}.png")
    path = write_config(tmp_path, str(tmp_path / "pics"))
    change(path, epochs=EPOCHS, lr_policy="fixed")
    yield path


def change(path: Path, **train: Any) -> None:
    config = yaml.safe_load(path.read_text(encoding="utf-8"))
    config["runs"] = {"first": {}}
    config["train"] |= train
    path.write_text(yaml.safe_dump(config), encoding="utf-8")


def points(folder: Path, tag: str) -> list[int]:
    events = EventAccumulator(str(folder / "tensorboard"), size_guidance={"scalars": 0})
    events.Reload()
    return [e.step for e in events.Scalars(tag)]


def table(run: Path, column: str) -> list[int]:
    """Iterations of which train.csv has a number in that column."""
    with (run / "train.csv").open(encoding="utf-8", newline="") as file:
        return [int(row["iteration"]) for row in csv.DictReader(file) if row[column]]


def test_trackers_change_nothing_and_train_nothing_again(own: Path) -> None:
    run = own.parent / "results" / "own" / "first"
    ran(snakemake(own, *TRAINED))
    before = sha256(run / "final.caffemodel")
    assert not (run / "tensorboard").exists()
    change(own, trackers=["tensorboard", "mlflow"])
    assert "Training " not in ran(snakemake(own, "-n", *TRAINED))
    (run / "final.caffemodel").unlink()
    ran(snakemake(own, *TRAINED))
    # The training was over, and its log tells it all.
    assert sha256(run / "final.caffemodel") == before
    assert points(run, "test/accuracy") == table(run, "val_accuracy")


def test_a_training_that_is_stopped_and_goes_on_has_each_point_once(own: Path) -> None:
    run = own.parent / "results" / "own" / "first"
    change(own, trackers=["tensorboard", "mlflow"], epochs=3000)
    terminal = Terminal(command(own, *TRAINED), own.parent, columns=120)
    try:
        terminal.until(lambda screen: " it  loss " in screen.text and "train first" in screen.text)
        terminal.press(b"\x03")
        assert terminal.end() == 1
        text = terminal.screen.text
        assert "the state is saved. Run the same command again to go on." in text
        assert terminal.screen.cursor_shown and " jobs  0:" not in text
    finally:
        terminal.close()
    (key,) = (run / "snapshots").iterdir()
    saved = max(int(p.stem.rpartition("_")[2]) for p in key.glob("snap_iter_*.json"))
    # A longer run goes on in the same snapshots; a shorter one ends sooner.
    change(own, epochs=saved // 2 + EPOCHS)
    ran(snakemake(own, *TRAINED))
    assert [*(run / "snapshots").iterdir()] == [key]
    shown = table(run, "loss")
    assert points(run, "train/loss") == shown
    assert len(set(shown)) == len(shown) > 0

    noted = json.loads((key / "mlflow.json").read_text(encoding="utf-8"))
    store = MlflowClient((own.parent / "results" / "mlruns").absolute().as_uri())
    assert len(store.search_runs([store.get_experiment_by_name("own").experiment_id])) == 1
    history = store.get_metric_history(noted["run_id"], "train/loss")
    assert sorted(metric.step for metric in history) == shown
    files = {file.path for file in store.list_artifacts(noted["run_id"])}
    assert {"final.caffemodel", "train.csv", "solver.prototxt"} <= files
    assert store.get_run(noted["run_id"]).info.status == "FINISHED"


def test_a_store_that_cannot_be_had_ends_in_a_message(own: Path) -> None:
    change(own, trackers=["mlflow"], mlflow_uri=f"file://{own}/store")
    done = snakemake(own, *TRAINED)
    assert done.returncode
    assert "recaffe: MLflow's store" in done.stderr
    assert "Traceback" not in done.stderr
