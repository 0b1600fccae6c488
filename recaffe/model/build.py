"""A run's files → the folder that a user ships. Nothing in it says where it was made, so it can go anywhere."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np

from recaffe import config as configs
from recaffe import mean as means
from recaffe import provenance
from recaffe.augment import Augment
from recaffe.engines import jobs
from recaffe.evaluate.metrics import wilson
from recaffe.files import sha256, write_aside, write_json, write_text
from recaffe.model import (
    CARD,
    EXAMPLES,
    FORMAT,
    LABELS,
    MEAN,
    NET,
    NOTE,
    PARTS,
    WEIGHTS,
    card,
    record_settings,
)
from recaffe.net import graph
from recaffe.net.parse import read_net
from recaffe.proto import caffe_pb2 as pb
from recaffe.tables import rows
from recaffe.weights import source

_SHIPPED = Path(__file__).with_name("shipped")


def build(run: Path, data: Path, settings: dict[str, Any]) -> None:
    """Write run/model from a run's folder and the data set's `data`.

    `settings` has `dataset`, `title`, `report`, `lmdb`, `scan` and `run` of the config. Raises
    `WeightsError` if the weights aren't those that the training ended with.
    """
    folder = run / "model"
    jobs.check_final(run / "final.caffemodel")
    copies = {
        NET: run / "deploy.prototxt", WEIGHTS: run / "final.caffemodel", LABELS: data / "labels.txt",
        **{name: _SHIPPED / name for name in EXAMPLES},
    }  # fmt: skip
    if settings["run"]["mean"] == "file":
        copies[MEAN] = data / "mean.binaryproto"
    else:
        # Caffe's own classification program and the examples want a file.
        means.write(_constant(settings["run"]["mean"], _json(data / "train_lmdb.json")["shape"]), folder / MEAN)  # fmt: skip
    for name, original in copies.items():
        with write_aside(folder / name) as aside:
            shutil.copyfile(original, aside)
    note = {
        **_note(run, data, settings),
        "files": {name: sha256(folder / name) for name in (*PARTS, *EXAMPLES)},
    }
    write_text(folder / CARD, card.render(note, settings["report"]))
    write_json(folder / NOTE, note)


def _constant(mean: list[float] | str, shape: list[int]) -> np.ndarray:
    values = np.zeros(1) if mean == "none" else np.array(mean)
    return np.broadcast_to(values.astype(np.float32)[:, None, None], shape)


def _note(run: Path, data: Path, settings: dict[str, Any]) -> dict[str, Any]:
    row, info, found = settings["run"], _json(run / "net.json"), _json(run / "metrics.json")
    trained, deploy = _json(run / "train.json"), read_net(run / "deploy.prototxt")
    classes = {c["name"]: c for c in rows(data / "classes.csv")}
    augment = Augment.of(row.get("augment"))
    lmdbs = {s: _json(data / f"{s}_lmdb.json")["sha256"] for s in ("train", "val", "test")}
    return {
        "format": FORMAT,
        "title": settings["title"] or settings["dataset"],
        "dataset": settings["dataset"],
        "run": run.name,
        "net": _net_name(row["net"]),
        "input": {"blob": next(x.top[0] for x in deploy.layer if x.type == "Input"), "shape": info["input"]},
        "output": graph.outputs(graph.of_phase(deploy, pb.TEST))[-1],
        "preprocessing": {
            "background": settings["scan"]["background"],
            "max_pixels": settings["scan"]["max_pixels"],
            "record": record_settings(settings["lmdb"]),
            "channels": "gray" if settings["lmdb"]["gray"] else "BGR",
            "mean": row["mean"],
            "crop_size": row["crop_size"],
            **({"crops": row["test_crops"]} if row.get("test_crops", 1) > 1 else {}),
            "scale": info["scale"],
        },
        "batch_size": row["test_batch_size"],
        "base": _base(row),
        "training": {
            "iteration": trained["iteration"], "device": trained["device"], "engine": row["engine"],
            **({"augment": augment.settings} if augment else {}),
        },
        "data": [
            {k: v if k == "name" else int(v) for k, v in classes[c["name"]].items()
             if k in ("name", "train", "val", "test")}
            for c in found["classes"]
        ],
        "metrics": {
            **{k: v for k, v in found.items() if k not in ("confusion", "reliability")},
            "classes": [_of_class(c) for c in found["classes"]],
        },
        "recaffe": provenance.versions()["recaffe"],
        "provenance": {
            "chain": f"{settings['dataset']}/{run.name}/{provenance.CHAIN}",
            "inventory": sha256(data / "inventory.csv"),
            "records": lmdbs,
        },
    }  # fmt: skip


def _of_class(row: dict[str, Any]) -> dict[str, Any]:
    """A class's numbers, with the interval of its recall."""
    n = row["support"]
    low, high = wilson(round(row["recall"] * n), n)
    return {**row, "recall_low": low, "recall_high": high}


def _net_name(net: str) -> str:
    return str(configs.model_card(net).get("name") or Path(net).name)


def _base(row: dict[str, Any]) -> dict[str, str]:
    """What the training started from, and under which licence that is."""
    choice, card_of_net = row["weights"], configs.model_card(row["net"])
    if choice == "none":
        return {"weights": "none", "licence": ""}
    if choice == "zoo" and "weights" in card_of_net:
        zoo = card_of_net["weights"]
        return {"weights": f"{zoo['package']} {zoo['version']}", "licence": zoo["licence"]}
    if choice == "zoo":
        said = card_of_net["published"]
        return {"weights": said["file"], "licence": f"{said['licence']} ({said['page']})"}
    # Of a path or URL only the name: the rest may be nobody's business.
    path = urlsplit(choice).path if source.is_url(choice) else choice
    return {"weights": Path(path).name, "licence": "unknown"}


def _json(path: Path) -> dict[str, Any]:
    value: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return value
