"""`recaffe why`: what a run would redo, in words, and that it does nothing itself."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import save, texture
from tests.workflow.faults.conftest import clone_to
from tests.workflow.faults.small import Small, everything, of_run
from tests.workflow.running import environment

# What planning brings up to date, as a dry run does.
LISTS = {"inventory.csv", "classes.txt", ".inventory_cache.csv", ".files_cache.csv"}


class Plan:
    """The lines of the command's output, by step."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.why = dict(x.split(maxsplit=1) for x in text.splitlines() if x.startswith("  "))

    def __getitem__(self, step: str) -> str:
        return self.why[step]


@pytest.fixture
def small(finished: Small, tmp_path: Path) -> Small:
    return finished.copy(tmp_path / "copy")


def ask(small: Small, *options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "recaffe", "why", "--configfile", "own.yaml", *options],
        cwd=small.folder,
        env={**environment(), "PYTHONPATH": str(small.root)},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def why(small: Small) -> Callable[..., Plan]:
    def plan(*options: str) -> Plan:
        before = dates(small)
        done = ask(small, *options)
        assert done.returncode == 0, done.stderr
        after = dates(small)
        assert {p.name for p in after if after[p] != before.get(p)} <= LISTS
        return Plan(done.stdout)

    return plan


def dates(small: Small) -> dict[Path, int]:
    return {p: p.stat().st_mtime_ns for p in small.results.rglob("*") if p.is_file()}


def test_nothing_to_do(why: Callable[..., Plan]) -> None:
    assert why().text == "Nothing: all of 13 steps are up to date.\n"


def test_a_setting_is_named_with_both_values(small: Small, why: Callable[..., Plan]) -> None:
    small.change(train={"base_lr": 0.02})
    plan = why()
    assert set(plan.why) == of_run("first", "solver", "train", "predict", "metrics", "model") | {
        "report"
    }
    assert plan["solver:first"] == "base_lr: 0.01 → 0.02"
    assert plan["train:first"] == "after solver:first"
    assert plan.text.startswith("6 of 13 steps would run:")
    assert "Kept: lmdb:test, lmdb:train, lmdb:val, mean, patch:first, scan, split" in plan.text
    small.change(report={"description": "Words"})
    assert "report.description:  → Words" in why()["report"]


def test_a_run_that_comes_or_goes_is_said_in_a_word(small: Small, why: Callable[..., Plan]) -> None:
    config = small.config
    small.config = {**config, "runs": {"first": {}, "second": {"base_lr": 0.5}}}
    plan = why()
    assert plan["train:second"] == "not made yet"
    assert plan["report"].startswith("run second added; after patch:second, ")
    small.config = {**config, "runs": {"third": {}}}
    assert why()["report"].startswith("run third added; run first removed; after ")
    small.config = {**config, "train": {**config["train"], "base_lr": 0.02}}
    assert why()["report"].startswith("runs.first.base_lr: 0.01 → 0.02; after ")


def test_a_longer_training_goes_on(small: Small, why: Callable[..., Plan]) -> None:
    small.change(train={"lr_policy": "fixed"})
    small.run()
    small.change(train={"max_iter": 9})
    assert why()["train:first"] == "after solver:first; goes on from its last snapshot"
    small.change(train={"max_iter": 9, "lr_policy": "poly"})
    assert why()["train:first"] == "after solver:first"


def test_pictures_are_counted_and_named(small: Small, why: Callable[..., Plan]) -> None:
    pics = small.folder / "pics"
    save(texture(77, 1, (24, 24)), pics / "b" / "new.png")
    save(texture(78, 1, (24, 24)), pics / "c" / "newer.png")
    save(texture(79, 1, (24, 24)), pics / "a" / "03.png")
    (pics / "a" / "04.png").unlink()
    (pics / "a" / "05.png").rename(pics / "a" / "five.png")
    plan = why()
    assert set(plan.why) == everything()
    assert plan["scan"] == (
        "2 pictures added: b/new.png, c/newer.png; 1 picture removed: a/04.png; "
        "1 picture renamed: a/05.png → a/five.png; 1 picture changed: a/03.png"
    )
    assert plan["split"] == "after scan"


def test_a_missing_file_and_an_edited_net_are_named(small: Small, why: Callable[..., Plan]) -> None:
    (small.results / "first" / "predictions.csv").unlink()
    plan = why()
    assert set(plan.why) == of_run("first", "predict", "metrics", "model") | {"report"}
    assert plan["predict:first"] == "not made yet"
    net = small.folder / "net.prototxt"
    net.write_text(net.read_text().replace("num_output: 4", "num_output: 6"))
    assert why()["patch:first"] == "the content of the net's prototxt has changed"


def test_only_what_a_target_needs_is_looked_at(small: Small, why: Callable[..., Plan]) -> None:
    small.change(train={"base_lr": 0.02}, report={"description": "Words"})
    plan = why("results/own/first/solver.prototxt")
    assert set(plan.why) == {"solver:first"}
    assert set(why("train").why) == set(why("train:first").why) == {"solver:first", "train:first"}
    assert why("scan", "lmdb").text == "Nothing: all of 5 steps are up to date.\n"


def test_a_raised_stage_is_named(small: Small, why: Callable[..., Plan], tmp_path: Path) -> None:
    small.root = clone_to(tmp_path / "newer", small.root)
    stages = small.root / "recaffe" / "stages.py"
    stages.write_text(f"{stages.read_text()}\nMEAN = 99\n")
    assert why()["mean"].startswith("the code of this stage has changed (version ")
    assert why()["train:first"] == "after mean"


def test_mistakes_are_one_message(small: Small) -> None:
    done = ask(small, "--configfile", "nowhere.yaml")
    assert done.returncode == 1 and "there is no such file" in done.stderr
    for target in ("trian", "results/own/first/solver.txt"):
        done = ask(small, target)
        assert done.returncode == 1 and target in done.stderr
        assert "Traceback" not in done.stderr
    for name in "bc":
        shutil.rmtree(small.folder / "pics" / name)
    done = ask(small)
    assert done.returncode == 1
    assert "only one class" in done.stderr and "Traceback" not in done.stderr
