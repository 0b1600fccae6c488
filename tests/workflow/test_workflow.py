"""The whole workflow on a folder of a user's own pictures, as a user runs it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from recaffe.cli import main
from recaffe.config import ROOT
from recaffe.lmdb import read
from recaffe.lmdb.write import read_list
from tests.conftest import save, texture
from tests.small_models import same_as_predictions
from tests.workflow.running import command, ran, refused, snakemake

SMALL_NET = (ROOT / "models" / "lenet" / "train_val.prototxt").read_text(encoding="utf-8")


def write_config(folder: Path, images: Any, **more: Any) -> Path:
    config = {
        "dataset": "own",
        "images": images,
        "split": {"val": 0.2, "test": 0.2},
        "lmdb": {"width": 28, "height": 28},
        "train": {
            "net": str(folder / "net.prototxt"),
            "weights": "none",
            "epochs": 3,
            "mean": "file",
            "threads": 1,
            "base_lr": 0.001,
        },
        "runs": {"first": {}, "second": {"seed": 7, "mean": [1, 2, 3]}},
        **more,
    }
    (folder / "net.prototxt").write_text(SMALL_NET, encoding="utf-8")
    (folder / "own.yaml").write_text(yaml.safe_dump(config, allow_unicode=True), encoding="utf-8")
    return folder / "own.yaml"


def test_a_folder_of_odd_pictures_becomes_a_report_and_models(
    class_folders: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (class_folders / "rot" / "broken.jpg").write_bytes(b"\xff\xd8nothing")
    (class_folders / "blau" / "again.png").symlink_to(class_folders / "blau" / "bild 00 ü.png")
    config = write_config(tmp_path, str(class_folders))
    said = ran(snakemake(config))
    out = tmp_path / "results" / "own"
    report = (out / "report.html").read_text(encoding="utf-8")
    for word in ("broken.jpg", "grün Wald", "N = ", "first", "second", "<svg", "data:image/jpeg"):
        assert word in report, word
    assert "http://" not in report.replace("http://www.w3.org", "")
    assert 'src="http' not in report
    summary = (out / "summary.txt").read_text(encoding="utf-8")
    assert summary in said
    assert "95 % interval" in summary
    assert "train first: iteration 0, validation accuracy" in said, (
        "progress shows without a terminal"
    )
    for split in ("train", "val", "test"):
        lines = (out / "data" / f"{split}.txt").read_text(encoding="utf-8").splitlines()
        assert len(lines) == read.count(out / "data" / f"{split}_lmdb")
    metrics = json.loads((out / "first" / "metrics.json").read_text())
    assert metrics["n"] == len((out / "data" / "test.txt").read_text().splitlines())
    for name in (
        "final.caffemodel",
        "train.csv",
        "train.log",
        "predictions.csv",
        "deploy.prototxt",
        "layers.csv",
    ):
        assert (out / "first" / name).stat().st_size, name

    for run in ("first", "second"):
        shutil.copytree(out / run / "model", tmp_path / "taken along" / run)
        listed = read_list(out / "data" / "test.txt", 0)
        pictures = [str(class_folders / entry.path) for entry in listed]
        capsys.readouterr()
        command = ["predict", str(tmp_path / "taken along" / run), *pictures, "--top", "9"]
        assert main([*command, "--threads", "1"]) == 0
        same_as_predictions(capsys.readouterr().out, out / run)

    assert "Nothing to be done" in ran(snakemake(config, "-n"))
    for file in class_folders.rglob("*.png"):
        file.touch()
    assert "Nothing to be done" in ran(snakemake(config, "-n"))

    changed = yaml.safe_load(config.read_text(encoding="utf-8"))
    changed["runs"]["second"]["seed"] = 8
    config.write_text(yaml.safe_dump(changed), encoding="utf-8")
    plan = ran(snakemake(config, "-n"))
    assert "Training second" in plan
    assert "Training first" not in plan
    assert "Decoding" not in plan
    save(texture(99, 1), class_folders / "rot" / "bild 03 ü.png")
    assert "Decoding every picture" in ran(snakemake(config, "-n"))


def mistake_one_class(folder: Path) -> Any:
    for i in range(5):
        save(texture(i), folder / "pics" / "only" / f"{i}.png")
    return str(folder / "pics")


def mistake_empty_class(folder: Path) -> Any:
    mistake_one_class(folder)
    (folder / "pics" / "leer").mkdir()
    return str(folder / "pics")


def mistake_line(text: str):
    def make(folder: Path) -> Any:
        for i in range(3):
            save(texture(i), folder / f"{i}.png")
        (folder / "l.txt").write_text(text)
        return {"train": {"list": str(folder / "l.txt")}}

    return make


MISTAKES = {
    "missing root": (lambda f: str(f / "nowhere"), ["there is no", "nowhere"]),
    "one class": (mistake_one_class, ["only one class", "'only'"]),
    "empty class": (mistake_empty_class, ["leer is empty"]),
    "no label": (mistake_line("0.png\n"), ["line 1", "no label"]),
    "label gap": (mistake_line("0.png 0\n1.png 2\n"), ["no line has label 1"]),
    "label name in a list": (mistake_line("0.png 0\n1.png dog\n"), ["line 2", "'dog'"]),
    "listed twice": (mistake_line("0.png 0\n1.png 1\n0.png 1\n"), ["'0.png' is listed twice"]),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_in_the_pictures_is_one_message_before_any_job(name: str, tmp_path: Path) -> None:
    make, words = MISTAKES[name]
    refused(write_config(tmp_path, make(tmp_path)), *words)
    assert not list(tmp_path.glob("results/own/logs"))


def test_weights_of_another_net_are_named_with_both_shapes(
    class_folders: Path, tmp_path: Path
) -> None:
    from recaffe.net import weights

    blobs = [np.zeros((20, 1, 5, 5), np.float32), np.zeros(20, np.float32)]
    weights.write(
        weights.to_net("other", [("conv1", "Convolution", blobs)]), tmp_path / "other.caffemodel"
    )
    config = write_config(
        tmp_path, str(class_folders), runs={"a": {"weights": str(tmp_path / "other.caffemodel")}}
    )
    refused(config, "conv1: mismatch", "20×3×5×5", "20×1×5×5", "conv2: new")


def test_a_results_folder_that_is_a_file_is_named(class_folders: Path, tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("")
    refused(write_config(tmp_path, str(class_folders), results=str(tmp_path / "taken")), "taken")


def test_an_unknown_key_is_named(class_folders: Path, tmp_path: Path) -> None:
    refused(write_config(tmp_path, str(class_folders), trian={}), "unknown key 'trian'", "'train'")


@pytest.mark.parametrize(
    "stage", ["scan.log", "lmdb_train.log", "first/logs/train.log", "first/logs/predict.log"]
)
def test_after_ctrl_c_the_same_command_finishes_the_job(
    class_folders: Path, tmp_path: Path, stage: str
) -> None:
    config = write_config(tmp_path, str(class_folders), runs={"first": {"epochs": 30}})
    log = tmp_path / "results" / "own" / (stage if "/" in stage else f"logs/{stage}")
    # A group of its own, as a terminal gives one: Ctrl-C reaches every process in it.
    with subprocess.Popen(
        command(config),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        cwd=tmp_path,
    ) as process:
        deadline = time.monotonic() + 120
        while not log.exists() and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.02)
        time.sleep(0.3)
        os.killpg(process.pid, signal.SIGINT)
        process.wait(timeout=600)
    assert process.returncode != 0, "the stop came too late to test anything"
    assert not list((tmp_path / "results").rglob(".*.tmp"))
    ran(snakemake(config))
    assert (tmp_path / "results" / "own" / "report.html").is_file()
