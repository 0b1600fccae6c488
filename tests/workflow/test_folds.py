"""The plan of a cross validation, and what excludes one."""

from __future__ import annotations

import shutil
from pathlib import Path

from tests.workflow.faults.small import Small
from tests.workflow.running import refused


def test_all_folds_share_one_scan_and_each_has_the_rest(tmp_path: Path) -> None:
    small = Small.begin(tmp_path, split={"folds": 3}, runs={"first": {"seeds": 2}})
    small.change(lmdb={"shards": 2})
    plan = small.plan()
    once = {"scan", "folds"}
    each = {"split": 3, "lmdb_shard": 18, "join_lmdb": 9, "mean_shard": 6, "mean": 3, "report": 3}
    for name, count in plan.items():
        assert count == (1 if name in once else each.get(name, 6)), name
    assert {*once, *each, "patch", "solver", "train", "predict", "metrics", "model"} <= {*plan}


def test_pictures_that_come_in_sets_are_refused_before_anything_runs(tmp_path: Path) -> None:
    small = Small.begin(tmp_path, split={"folds": 3})
    shutil.move(tmp_path / "pics", tmp_path / "train")
    (tmp_path / "pics").mkdir()
    shutil.move(tmp_path / "train", tmp_path / "pics")
    shutil.copytree(tmp_path / "pics" / "train", tmp_path / "pics" / "test")
    refused(small.file, "test pictures are given", "split.folds to 0", options=["-n"])
