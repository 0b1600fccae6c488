"""A small workflow: 36 pictures, a net of two layers, and what is known of its results."""

from __future__ import annotations

import csv
import hashlib
import re
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from recaffe import folds, sweeps
from recaffe.config import ROOT
from recaffe.lmdb import read
from recaffe.model import FILES as FILES_OF_MODEL
from recaffe.net import weights
from tests.conftest import save, texture
from tests.workflow import running

NET = """
name: "tiny"
layer { name: "data" type: "Data" top: "data" top: "label" include { phase: TRAIN }
  data_param { source: "train" batch_size: 8 backend: LMDB } transform_param { mirror: true scale: 0.01 } }
layer { name: "data" type: "Data" top: "data" top: "label" include { phase: TEST }
  data_param { source: "val" batch_size: 8 backend: LMDB } transform_param { scale: 0.01 } }
layer { name: "conv" type: "Convolution" bottom: "data" top: "conv"
  convolution_param { num_output: 4 kernel_size: 3 stride: 2 weight_filler { type: "msra" } } }
layer { name: "relu" type: "ReLU" bottom: "conv" top: "conv" }
layer { name: "drop" type: "Dropout" bottom: "conv" top: "conv" }
layer { name: "fc" type: "InnerProduct" bottom: "conv" top: "fc"
  inner_product_param { num_output: 10 weight_filler { type: "xavier" } } }
layer { name: "accuracy" type: "Accuracy" bottom: "fc" bottom: "label" top: "accuracy" include { phase: TEST } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "fc" bottom: "label" top: "loss" }
"""
DATA_RULES = {"scan", "split", "lmdb:train", "lmdb:val", "lmdb:test", "mean"}
RUN_RULES = ("patch", "solver", "train", "predict", "metrics", "model")
# These columns of train.csv are of the clock.
CLOCK = ("seconds", "images_per_second")
FILES = (
    "train.txt", "val.txt", "test.txt", "labels.txt", "classes.csv", "duplicates.csv", "lists.json",
    "manifest.csv", "rejected.csv", "mean.binaryproto",
)  # fmt: skip
RUN_FILES = (
    "train_val.prototxt", "deploy.prototxt", "net.json", "layers.csv", "solver.prototxt",
    "final.caffemodel", "predictions.csv", "metrics.json", "linear.json",
    *(f"model/{name}" for name in FILES_OF_MODEL),
)  # fmt: skip


def of_run(run: str, *rules: str) -> set[str]:
    """`train:first` and so on; all rules of a run unless some are named."""
    return {f"{rule}:{run}" for rule in rules or RUN_RULES}


def everything(*runs: str) -> set[str]:
    """All rules of a workflow with these runs."""
    return DATA_RULES.union(*(of_run(run) for run in runs or ("first",))) | {"report"}


def write_pictures(root: Path, classes: Iterable[str] = "abc", count: int = 12) -> None:
    for hue, name in enumerate(classes):
        for i in range(count):
            save(texture(1000 * hue + i, hue, (24, 24)), root / name / f"{i:02d}.png")


def write_weights(path: Path, seed: int) -> None:
    """A caffemodel that fits the net's convolution."""
    rng = np.random.default_rng(seed)
    blobs = [rng.normal(0, 0.1, shape).astype(np.float32) for shape in ((4, 3, 3, 3), (4,))]
    weights.write(weights.to_net("tiny", [("conv", "Convolution", blobs)]), path)


class Small:
    """A folder with pictures, nets, a config, and what the workflow makes of them."""

    def __init__(self, folder: Path, root: Path = ROOT) -> None:
        self.folder, self.root = folder, root
        self.file = folder / "own.yaml"

    @classmethod
    def begin(cls, folder: Path, images: Any = "pics", **more: Any) -> Small:
        """Write what a user writes."""
        write_pictures(folder / "pics")
        (folder / "net.prototxt").write_text(NET, encoding="utf-8")
        small = cls(folder)
        small.config = {
            "dataset": "own",
            "images": images,
            "split": {"val": 0.25, "test": 0.25},
            "lmdb": {"width": 16, "height": 16},
            "train": {
                "net": "net.prototxt", "weights": "none", "epochs": 2, "mean": "file", "threads": 1,
                "base_lr": 0.01, "batch_size": 8,
            },
            "report": {"heat_maps": 0},  # a job more, which has tests of its own
            "runs": {"first": {}},
            **more,
        }  # fmt: skip
        return small

    @property
    def config(self) -> dict[str, Any]:
        """The config file's content."""
        return yaml.safe_load(self.file.read_text(encoding="utf-8"))

    @config.setter
    def config(self, value: dict[str, Any]) -> None:
        self.file.write_text(yaml.safe_dump(value, sort_keys=False), encoding="utf-8")

    def change(self, **sections: Any) -> None:
        """Set keys of the config's sections; other values as they are."""
        config = self.config
        for name, value in sections.items():
            old = config.get(name)
            merge = isinstance(old, dict) and isinstance(value, dict)
            config[name] = {**old, **value} if merge else value
        self.config = config

    def copy(self, folder: Path) -> Small:
        """The folder as it stands, results and dates included."""
        shutil.copytree(self.folder, folder, symlinks=True)
        return Small(folder, self.root)

    def without_results(self, folder: Path) -> Small:
        """Only what the user wrote."""
        skip = shutil.ignore_patterns("results", "moved", ".snakemake")
        shutil.copytree(self.folder, folder, symlinks=True, ignore=skip)
        return Small(folder, self.root)

    def run(self, *options: str, cores: int = 1) -> set[str]:
        """Run the workflow; returns which rules ran, such as `lmdb:train` or `patch:first`."""
        before = self._benchmarks()
        self.said = running.ran(running.snakemake(self.file, *options, root=self.root, cores=cores))
        after = self._benchmarks()
        return {name for name, time in after.items() if before.get(name) != time}

    def plan(self, *options: str) -> dict[str, int]:
        """What a dry run says it would do: how many jobs of each rule."""
        said = running.ran(running.snakemake(self.file, "-n", *options, root=self.root))
        table = re.search(r"Job stats:\n.*\n-.*\n((?:\S+ +\d+\n)+)", said)
        if table is None:
            assert "Nothing to be done" in said, said
            return {}
        jobs = {rule: int(n) for rule, n in map(str.split, table[1].splitlines())}
        return {rule: n for rule, n in jobs.items() if rule not in ("all", "total")}

    @property
    def results(self) -> Path:
        return self.folder / self.config.get("results", "results") / "own"

    def _benchmarks(self) -> dict[str, int]:
        found = {}
        for path in self.results.glob("**/benchmarks/*.tsv"):
            owner = path.parents[1].relative_to(self.results).parts  # fold, run, or neither
            name = ":".join([path.stem.replace("lmdb_", "lmdb:"), *owner])
            found[name] = path.stat().st_mtime_ns
        return found

    def artifacts(self) -> dict[str, Any]:
        """Digest of everything that the workflow makes, but for what the clock says."""
        found: dict[str, Any] = {}
        for part in folds.names(self.config["split"].get("folds", 0)) or [""]:
            found |= self._artifacts(self.results / part, f"{part}/" if part else "")
        return found

    def _artifacts(self, part: Path, prefix: str) -> dict[str, Any]:
        found: dict[str, Any] = {f"{prefix}{f}": digest(part / "data" / f) for f in FILES}
        for split in ("train", "val", "test"):
            found[f"{prefix}{split}_lmdb"] = read.describe(part / "data" / f"{split}_lmdb")
        for run in sweeps.expand(self.config["runs"], 99):
            folder = part / run
            for name in RUN_FILES:
                if (folder / name).exists():
                    found[f"{prefix}{run}/{name}"] = digest(folder / name)
            found[f"{prefix}{run}/train.csv"] = without_clock(folder / "train.csv")
        return found


def without_clock(table: Path) -> list[dict[str, str]]:
    with table.open(encoding="utf-8", newline="") as f:
        return [{k: v for k, v in row.items() if k not in CLOCK} for row in csv.DictReader(f)]


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
