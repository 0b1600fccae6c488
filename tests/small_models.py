"""A small model as a user takes it along, and what its example scripts must print."""

from __future__ import annotations

import csv
import io
import re
from pathlib import Path
from typing import Any

import numpy as np

from recaffe.evaluate import predictions
from recaffe.lmdb.write import read_list
from recaffe.tables import text_of
from tests.small_results import build_results

CLASSES = ("=do|g_x", "cat", "grün")
NET = """name: "tiny"
layer { name: "data" type: "Data" top: "data" top: "label" include { phase: TRAIN } transform_param { scale: 0.01 } }
layer { name: "data" type: "Data" top: "data" top: "label" include { phase: TEST } transform_param { scale: 0.01 } }
layer { name: "conv" type: "Convolution" bottom: "data" top: "conv" convolution_param { num_output: 5 kernel_size: 3 weight_filler { type: "msra" } } }
layer { name: "relu" type: "ReLU" bottom: "conv" top: "conv" }
layer { name: "pool" type: "Pooling" bottom: "conv" top: "pool" pooling_param { pool: MAX kernel_size: 2 stride: 2 } }
layer { name: "drop" type: "Dropout" bottom: "pool" top: "pool" }
layer { name: "fc" type: "InnerProduct" bottom: "pool" top: "fc" inner_product_param { num_output: 2 weight_filler { type: "xavier" } } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "fc" bottom: "label" top: "loss" }
layer { name: "accuracy" type: "Accuracy" bottom: "fc" bottom: "label" top: "accuracy" include { phase: TEST } }
"""


def build(folder: Path, **more: Any) -> Path:
    """Results in `folder`, whose probabilities are neither 0 nor 1; returns it. `more` are settings of `train`."""
    train = {
        "mean": [90, 100, 110.5], "crop_size": 9, "base_lr": 0.01, "test_batch_size": 4, **more,
    }  # fmt: skip
    build_results(folder, CLASSES, net=NET, lmdb={"width": 12, "height": 10}, train=train)
    return folder


def in_test_order(built: Path) -> list[str]:
    """The test pictures, in the order in which they were tested."""
    entries = read_list(built / "results" / "own" / "data" / "test.txt", 0)
    return [str(built / "pictures" / entry.path) for entry in entries]


def same_as_predictions(said: str, run: Path) -> list[dict[str, str]]:
    """The rows that `recaffe predict --format csv` printed with all classes, if they are those of the
    run's predictions.csv to the last digit."""
    rows = list(csv.DictReader(io.StringIO(said)))
    with (run / "predictions.csv").open(encoding="utf-8", newline="") as f:
        wanted = list(csv.DictReader(f))
    assert len(rows) == len(wanted)
    for row, right in zip(rows, wanted, strict=True):
        assert row["path"].endswith(text_of(right["path"]))
        assert (row["predicted"], row["confidence"]) == (right["predicted"], right["confidence"])
        others = range(2, 1 + sum(key.startswith("p:") for key in right))
        found = {text_of(row[f"class_{k}"]): row[f"p_{k}"] for k in others}
        found[text_of(row["predicted"])] = row["confidence"]
        assert found == {key[2:]: p for key, p in right.items() if key.startswith("p:")}
    return rows


def check_example(said: str, built: Path, tolerance: float) -> None:
    """What an example printed are the probabilities of predictions.csv, best first."""
    table = predictions.read(built / "results" / "own" / "first" / "predictions.csv")
    blocks = re.findall(r"(?m)^(\S.*)\n((?:  .*\n){3})", said)
    assert [path for path, _ in blocks] == in_test_order(built)
    for (_, lines), row in zip(blocks, table.probabilities, strict=True):
        found = [line.split(maxsplit=1) for line in lines.splitlines()]
        assert [label for _, label in found] == [table.classes[k] for k in (-row).argsort()]
        assert np.abs([float(p) for p, _ in found] - np.sort(row)[::-1]).max() < tolerance
