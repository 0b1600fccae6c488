"""A whole results folder, made by the stages' own functions in seconds, without Snakemake."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from recaffe import config as configs
from recaffe import mean, provenance, solver, stages
from recaffe.engines import jobs
from recaffe.engines.base import PredictJob
from recaffe.engines.torch.predict import predict
from recaffe.engines.torch.train import train
from recaffe.evaluate import answers, groups, metrics, predictions
from recaffe.files import write_json, write_text
from recaffe.images import inventory, split
from recaffe.images.scan import scan
from recaffe.lmdb import read, write
from recaffe.model import build as build_model
from recaffe.net import prepare
from recaffe.report import build, collect, heat_maps
from tests.conftest import save, texture

NET = """name: "tiny"
layer { name: "data" type: "Data" top: "data" top: "label" include { phase: TRAIN } data_param { source: "a" batch_size: 4 backend: LMDB } }
layer { name: "data" type: "Data" top: "data" top: "label" include { phase: TEST } data_param { source: "b" batch_size: 4 backend: LMDB } }
layer { name: "fc" type: "InnerProduct" bottom: "data" top: "fc" inner_product_param { num_output: 2 weight_filler { type: "xavier" } } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "fc" bottom: "label" top: "loss" }
layer { name: "accuracy" type: "Accuracy" bottom: "fc" bottom: "label" top: "accuracy" include { phase: TEST } }
"""


def build_results(
    folder: Path,
    classes: Sequence[str] = ("cat", "dog"),
    prefix: str = "picture",
    net: str = NET,
    count: int = 14,
    draw: Callable[[int, int], np.ndarray] | None = None,
    **settings: Any,
) -> Path:
    """`count` pictures a class, config and results/own in `folder`, whose names are relative to it.

    `draw` gives the picture of a class's number and a number: RGB, uint8 H×W×3.

    `settings` come on top of the config's `lmdb`, `train` and `report`; `runs` and `title` stand in their place.
    """
    back = Path.cwd()
    os.chdir(folder)
    try:
        _save(classes, prefix, count, draw or (lambda k, i: texture(1000 * k + i, k, (16, 16))))
        return folder / _build(net, settings)
    finally:
        os.chdir(back)


def _save(
    classes: Sequence[str], prefix: str, count: int, draw: Callable[[int, int], np.ndarray]
) -> None:
    for k, name in enumerate(classes):
        for i in range(count):
            save(draw(k, i), Path("pictures") / name / f"{prefix}{i}.png")


def _build(net: str, settings: dict[str, Any]) -> Path:
    Path("net.prototxt").write_text(net, encoding="utf-8")
    config = configs.complete(
        {
            "dataset": "own",
            "title": settings.get("title", ""),
            "images": "pictures",
            "split": {"val": 0.25, "test": 0.25},
            "lmdb": {"width": 8, "height": 8, **settings.get("lmdb", {})},
            "train": {
                "net": "net.prototxt", "weights": "none", "epochs": 2, "mean": "file",
                "threads": 1, "base_lr": 0.0001, "batch_size": 4, "device": "cpu",
                **settings.get("train", {}),
            },
            "report": settings.get("report", {}),
            "runs": settings.get("runs", {"first": {}}),
        }
    )  # fmt: skip
    results, seed = Path("results/own"), config["split"]["seed"]
    data = results / "data"
    listed = data / "inventory.csv"
    inventory.take(config["images"], listed, data / ".inventory_cache.csv")
    scan(listed, data / "manifest.csv", data / "rejected.csv", config["scan"], 1)
    split.write(data / "manifest.csv", listed, data / "rejected.csv", data, config)
    for name in inventory.SPLITS:
        lmdb = data / f"{name}_lmdb"
        write.write(data / f"{name}.txt", "pictures", lmdb, config, seed, 1)
        write_json(data / f"{name}_lmdb.json", read.describe(lmdb))
    mean.write(mean.compute(data / "train_lmdb"), data / "mean.binaryproto")
    for name in config["runs"]:
        _run(results, name, config)
    if "heat_maps" in settings.get("report", {}):
        _look(results, config)
    weights: dict[str, list[str]] = {name: [] for name in config["runs"]}
    facts = collect.collect(results, config, weights)
    groups.write(groups.table(config, facts["runs"]), results)
    write_text(results / "report.html", build.render(facts))
    write_text(results / "summary.txt", collect.headline(facts) + "\n")
    provenance.write(results, config, weights)
    return results


def _run(results: Path, name: str, config: dict[str, Any]) -> None:
    data, run, row = results / "data", results / name, config["runs"][name]
    mean_file = [data / "mean.binaryproto"] if row["mean"] == "file" else []
    prepare.prepare(
        Path(row["net"]), data, None, {"dataset": "own", "mean": str((mean_file or [""])[0]), "run": row}
    ).write(run)  # fmt: skip
    _train(data, run, row, mean_file)
    job = _job(data, run, row)
    entries = write.read_list(data / "test.txt", config["split"]["seed"])
    labels = (data / "labels.txt").read_text(encoding="utf-8").splitlines()
    table = predictions.tabulate(predict(job, title="test"), entries, labels)
    predictions.write(table, run / "predictions.csv")
    write_json(run / "metrics.json", metrics.compute(predictions.read(run / "predictions.csv")))
    build_model.build(run, data, {**config, "run": row})


def _job(data: Path, run: Path, row: dict[str, Any]) -> PredictJob:
    mean_file = [data / "mean.binaryproto"] if row["mean"] == "file" else []
    return jobs.predict_job(
        row, deploy=run / "deploy.prototxt", net_info=run / "net.json",
        weights=run / "final.caffemodel", lmdb=data / "test_lmdb", mean=mean_file,
    )  # fmt: skip


def _look(results: Path, config: dict[str, Any]) -> None:
    data, (name, row) = results / "data", next(iter(config["runs"].items()))
    made = heat_maps.make(
        _job(data, results / name, row),
        write.read_list(data / "test.txt", config["split"]["seed"]),
        answers.read(results / name / "predictions.csv"),
        (data / "labels.txt").read_text(encoding="utf-8").splitlines(),
        config["report"]["heat_maps"],
    )
    write_json(results / name / "heat_maps.json", made)


def _train(data: Path, run: Path, row: dict, mean_file: list[Path]) -> None:
    notes = data / "train_lmdb.json", data / "val_lmdb.json"
    records = (read.count(data / "train_lmdb"), read.count(data / "val_lmdb"))
    plan = solver.build(row, str(run / "train_val.prototxt"), str(run / "snapshots/snap"), *records)
    write_text(run / "solver.prototxt", solver.to_text(plan))
    job = jobs.train_job(
        {"stage": stages.TRAIN, "run": row}, net=run / "train_val.prototxt",
        solver=run / "solver.prototxt", net_info=run / "net.json", records=notes, weights=[],
        mean=mean_file, snapshots=run / "snapshots", title="train",
    )  # fmt: skip
    jobs.publish(job, train(job), run)
