"""Whole results folders whose reports have something in every section."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from recaffe.config import ROOT
from tests.small_results import build_results

NET = """name: "small"
layer { name: "data" type: "Data" top: "data" top: "label" include { phase: TRAIN } transform_param { mirror: true scale: 0.01 } data_param { source: "a" batch_size: 8 backend: LMDB } }
layer { name: "data" type: "Data" top: "data" top: "label" include { phase: TEST } transform_param { scale: 0.01 } data_param { source: "b" batch_size: 8 backend: LMDB } }
layer { name: "conv1" type: "Convolution" bottom: "data" top: "conv1" convolution_param { num_output: 8 kernel_size: 3 weight_filler { type: "msra" } } }
layer { name: "relu1" type: "ReLU" bottom: "conv1" top: "conv1" }
layer { name: "fc" type: "InnerProduct" bottom: "conv1" top: "fc" inner_product_param { num_output: 2 weight_filler { type: "xavier" } } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "fc" bottom: "label" top: "loss" }
layer { name: "accuracy" type: "Accuracy" bottom: "fc" bottom: "label" top: "accuracy" include { phase: TEST } }
"""
# That of `make run`; RECAFFE_REPORT=FILE takes another one.
DEMONSTRATION = Path(os.environ.get("RECAFFE_REPORT", ROOT / "results" / "elpv" / "report.html"))
# Pictures of the first and the fourth look alike, so that some are confused.
CLASSES = ("apple", "birch", "cloud", "dune", "elm")
RUNS: dict[str, Any] = {
    "first": {},
    "slow": {"base_lr": 0.0001},
    "slow_seed2": {"base_lr": 0.0001, "seed": 2},
}


def rich(folder: Path, **more: Any) -> Path:
    """A report of three runs on five classes, two of the runs differing in the seed only."""
    folder.mkdir(parents=True, exist_ok=True)
    given = {"classes": CLASSES, "count": 40, "runs": RUNS, "report": {"heat_maps": 4}, **more}
    return build_results(
        folder, net=NET, lmdb={"width": 16, "height": 16}, train={"epochs": 5, "base_lr": 0.003}, **given
    )  # fmt: skip
