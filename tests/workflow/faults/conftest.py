"""A clone of recaffe and finished workflows, made once and copied for each change."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from recaffe.config import ROOT
from tests.workflow.faults.small import NET, Small, write_weights

CLONED = ("Snakefile", "rules", "scripts", "recaffe", "profiles", "config", "models", "envs")


def clone_to(folder: Path, root: Path = ROOT) -> Path:
    """A copy of what runs a workflow, dates included."""
    for name in CLONED:
        source = root / name
        if source.is_dir():
            shutil.copytree(source, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            folder.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, folder / name)
    return folder


@pytest.fixture(scope="session")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """recaffe as it is now, whoever edits the checkout meanwhile."""
    return clone_to(tmp_path_factory.mktemp("clone") / "recaffe")


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory, clone: Path) -> Small:
    """One run on folders of classes; not to be changed."""
    small = Small.begin(tmp_path_factory.mktemp("finished"))
    small.root = clone
    small.run(cores=2)
    return small


@pytest.fixture(scope="session")
def finished_lists(tmp_path_factory: pytest.TempPathFactory, clone: Path) -> Small:
    """One run on Caffe's lists and a label list; not to be changed."""
    images = {
        **{s: {"list": f"{s}.txt", "root": "pics"} for s in ("train", "val", "test")},
        "label_names": "names.txt",
    }
    small = Small.begin(tmp_path_factory.mktemp("lists"), images)
    small.root = clone
    for split, numbers in (("train", range(7)), ("val", range(7, 10)), ("test", range(10, 12))):
        lines = [f"{name}/{i:02d}.png {label}" for label, name in enumerate("abc") for i in numbers]
        (small.folder / f"{split}.txt").write_text("\n".join(lines) + "\n")
    (small.folder / "names.txt").write_text("one\ntwo\nthree\n")
    small.run(cores=2)
    return small


@pytest.fixture(scope="session")
def finished_runs(tmp_path_factory: pytest.TempPathFactory, clone: Path) -> Small:
    """Many runs on the same pictures, for changes that are about one run; not to be changed."""
    small = begin_runs(tmp_path_factory.mktemp("runs"), clone)
    small.run(cores=2)
    return small


def begin_runs(folder: Path, root: Path) -> Small:
    """Many runs on the same pictures, nothing made yet."""
    names = ("plain", "rate", "longer", "poly", "shorter", "batch", "seed", "mean", "threads")
    runs: dict[str, dict] = {name: {} for name in names}
    runs["longer"] = {"max_iter": 4, "lr_policy": "step", "step_epochs": 1}
    runs["poly"] = {"max_iter": 4, "lr_policy": "poly"}
    runs["shorter"] = {"max_iter": 6, "lr_policy": "fixed"}
    runs["net"] = {"net": "other.prototxt"}
    runs["weights"] = {"weights": "start.caffemodel"}
    small = Small.begin(folder, runs=runs)
    small.root = root
    (small.folder / "other.prototxt").write_text(NET)
    write_weights(small.folder / "start.caffemodel", 0)
    return small
