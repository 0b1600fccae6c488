"""Cross validation: each picture is tested in one fold, no twin trains there, and nothing else moves it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recaffe import config, folds
from recaffe.errors import ConfigError, DataError
from recaffe.evaluate import metrics, pooled, predictions
from recaffe.evaluate.predictions import Table
from recaffe.images import inventory, scan, split
from tests.unit.test_split import ROWS, near_twins, row
from tests.workflow.faults.small import write_pictures

SHARES = {"val": 0.2, "seed": 0, "oversample": False}
SMALL: dict[str, Any] = {"dataset": "d", "images": "x", "runs": {"a": {"weights": "none"}}}


def places(rows: list[dict[str, str]], count: int, seed: int = 0) -> list[list[str]]:
    """Of each fold, where each row goes."""
    shares = {**SHARES, "seed": seed}
    return [
        split.assign(rows, {**shares, "fold": [n, count]}, 10, False).place
        for n in range(1, count + 1)
    ]


@pytest.mark.parametrize("count", [2, 3, 7, 10])
def test_each_picture_is_tested_in_exactly_one_fold(count: int) -> None:
    found = places(ROWS, count)
    for tests in zip(*found, strict=True):
        assert tests.count("test") == 1
    for place in found:
        assert place.count("test") == pytest.approx(len(ROWS) / count, rel=0.8)
        assert place.count("val") == pytest.approx(len(ROWS) * 0.2, rel=0.6)
        assert "" not in place


@settings(max_examples=10, deadline=None)
@given(st.sets(st.integers(0, 119), min_size=1), st.integers(2, 12), st.integers(0, 3))
def test_removing_pictures_moves_no_other(kept: set[int], count: int, seed: int) -> None:
    whole = places(ROWS, count, seed)
    part = places([ROWS[i] for i in sorted(kept)], count, seed)
    assert part == [[place[i] for i in sorted(kept)] for place in whole]


def test_each_picture_validates_in_its_share_of_the_folds() -> None:
    found = places(ROWS, 10)
    counts = [column.count("val") for column in zip(*found, strict=True)]
    assert set(counts) == {2}, "0.2 of ten folds"
    assert all("train" in column for column in zip(*found, strict=True))


def test_folds_are_the_split_turned_around() -> None:
    plain = split.assign(ROWS, {**SHARES, "test": 0.25}, 10, False).place
    assert places(ROWS, 4)[0] == plain


def test_another_seed_gives_other_folds() -> None:
    assert places(ROWS, 3, 1) != places(ROWS, 3, 2)


def test_twins_are_each_tested_and_never_train_for_each_other() -> None:
    rows = near_twins()
    found = places(rows, 5)
    assert any("" in place for place in found), "some twins are tested in different folds"
    for tests in zip(*found, strict=True):
        assert tests.count("test") == 1, "no twin goes untested"
    for place in found:
        for group in split.assign(rows, {**SHARES, "fold": [1, 5]}, 10, False).groups:
            sets = {place[i] for i in group.members} - {""}
            assert len(sets) == 1, "within a fold, twins are in one set or left out"


@pytest.mark.parametrize(
    ("count", "val", "message"),
    [
        (2, 0.45, r"'a' has no picture to train on in fold \d of 2"),
        (60, 0.1, r"No picture falls into the test set in fold \d+ of 60\. Lower split.folds"),
        (3, 0.0, r"No picture falls into the val set in fold 1 of 3\. Raise split.val"),
    ],
)
def test_too_few_pictures_are_told_with_the_fold(
    tmp_path: Path, count: int, val: float, message: str
) -> None:
    write_pictures(tmp_path / "pics", "ab", 4)
    full = config.complete(
        {**SMALL, "images": str(tmp_path / "pics"), "split": {"folds": count, "val": val}}
    )
    data = tmp_path / "data"
    inventory.take(full["images"], data / "inventory.csv", data / "cache")
    scan.scan(data / "inventory.csv", data / "manifest.csv", data / "rejected.csv", full["scan"], 1)
    with pytest.raises(DataError, match=message):
        for fold in folds.names(count):
            split.write(
                data / "manifest.csv", data / "inventory.csv", data / "rejected.csv",
                tmp_path / fold / "data", folds.of_fold(full, fold),
            )  # fmt: skip


def test_a_picture_under_two_labels_is_in_no_fold() -> None:
    rows = [row(1), row(1, label="b"), *(row(i) for i in range(2, 30))]
    for n in (1, 2):
        assert split.assign(rows, {**SHARES, "fold": [n, 2]}, 10, True).place[:2] == ["", ""]


@pytest.mark.parametrize("given_as", ["val", "test"])
def test_given_sets_exclude_folds(given_as: str) -> None:
    rows = [row(1), row(2, split="train"), row(3, split=given_as)]
    with pytest.raises(DataError, match=rf"{given_as} pictures are given.*split.folds to 0"):
        split.assign(rows, {**SHARES, "fold": [1, 2]}, 10, False)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"split": {"folds": 1}}, "split.folds is 1; allowed is 0 for none, or at least 2"),
        ({"split": {"folds": -1}}, "split.folds is -1.*at least 0"),
        ({"split": {"folds": 2.5}}, "split.folds is 2.5.*integer"),
        ({"split": {"folds": 2, "val": 0.5}}, "split.val.*and is 1: nothing would be left"),
        ({"split": {"folds": 5}, "images": {"path": "x", "split_column": "s"}},
         "split.folds is 5.*images.split_column"),
        ({"split": {"folds": 5}, "images": {"train": {"list": "a"}, "test": {"list": "b"}}},
         "split.folds is 5.*images.test"),
    ],
)  # fmt: skip
def test_settings_that_exclude_each_other_are_named(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        config.complete({**SMALL, **change})


def test_one_list_of_all_pictures_can_be_divided() -> None:
    images = {"train": {"list": "all.txt"}}
    assert (
        config.complete({**SMALL, "images": images, "split": {"folds": 3}})["split"]["folds"] == 3
    )


def test_without_folds_the_split_is_told_what_it_always_was() -> None:
    full = config.complete(SMALL)
    assert folds.of_fold(full, "") == {
        **full,
        "split": {"val": 0.15, "test": 0.15, "seed": 0, "oversample": False},
    }
    assert folds.names(0) == []


def test_a_fold_knows_which_of_how_many_it_is() -> None:
    full = config.complete({**SMALL, "split": {"folds": 3}})
    assert folds.names(3) == ["fold1", "fold2", "fold3"]
    told = folds.of_fold(full, "fold2")
    assert told["split"] == {"val": 0.15, "seed": 0, "oversample": False, "fold": [2, 3]}
    assert told["title"] == "d, fold 2 of 3"


def test_folds_share_what_is_known_of_the_pictures(tmp_path: Path) -> None:
    data, own = tmp_path / "data", tmp_path / "fold1" / "data"
    data.mkdir()
    for name in folds.SHARED:
        (data / name).write_text(name)
    own.mkdir(parents=True)
    (own / "manifest.csv").write_text("of a run without folds")
    folds.share(data, own)
    folds.share(data, own)
    moved = tmp_path.rename(tmp_path.with_name("moved"))
    for name in folds.SHARED:
        assert (moved / "fold1" / "data" / name).read_text() == name


# -- results


def table(paths: str, labels: list[int], right: list[int]) -> Table:
    """Predictions for two classes."""
    p = np.array([[0.9, 0.1] if r == (y == 0) else [0.2, 0.8] for y, r in zip(labels, right, strict=True)])  # fmt: skip
    return Table(list(paths), np.array(labels), p, ["cat", "dog"])


FOLDS = (("abc", [0, 1, 1], [1, 1, 0]), ("defg", [0, 0, 1, 1], [1, 1, 1, 1]), ("h", [0], [0]))


@pytest.fixture
def results(tmp_path: Path) -> Path:
    for n, (fold, accuracy) in enumerate(zip(FOLDS, (0.5, 0.75, 1.0), strict=True), 1):
        for run, seconds in (("a_seed1", 1.5), ("a_seed2", 2.5)):
            folder = tmp_path / f"fold{n}" / run
            folder.mkdir(parents=True)
            predictions.write(table(*fold), folder / "predictions.csv")
            found = metrics.compute(predictions.read(folder / "predictions.csv"))
            (folder / "metrics.json").write_text(json.dumps(found))
            trained = {"val_accuracy": accuracy, "iteration": 7, "reason": "done"}
            (folder / "train.json").write_text(json.dumps(trained))
            (folder / "train.csv").write_text(f"epoch,seconds\n1,0.1\n2,{seconds}\n")
    return tmp_path


def test_folds_are_pooled_as_one_test_of_all_pictures(results: Path) -> None:
    found = pooled.run_of(results, "a_seed1", folds.names(3))
    m = found["metrics"]
    assert (m["n"], m["hits"], m["top1"]) == (8, 6, 0.75)
    assert (m["top1_low"], m["top1_high"]) == metrics.wilson(6, 8)
    assert m["confusion"] == [[3, 1], [1, 3]]
    each = [(fold["fold"], fold["n"], fold["hits"], fold["val_accuracy"]) for fold in m["folds"]]
    assert each == [("fold1", 3, 2, 0.5), ("fold2", 4, 4, 0.75), ("fold3", 1, 0, 1.0)]
    over = m["over_folds"]["top1"]
    assert over == {"n": 3, "mean": pytest.approx(5 / 9), "sd": pytest.approx(0.50918, abs=1e-5)}
    assert found["train"]["val_accuracy"] == 0.75
    assert found["curve"] == [{"epoch": "6.0", "seconds": "4.5"}]


def test_seeds_of_a_cross_validation_spread_over_pooled_accuracies(results: Path) -> None:
    full = config.complete(
        {**SMALL, "runs": {"a": {"weights": "none", "seeds": 2}}, "split": {"folds": 3}}
    )
    names = folds.names(3)
    said = pooled.summarize(
        full, {run: pooled.run_of(results, run, names) for run in full["runs"]}, {}, names
    )
    assert said["pictures"] == 8
    assert said["groups"][0]["group"] == "a" == said["best_on_validation"]
    assert said["groups"][0]["accuracy"] == {"n": 2, "mean": 0.75, "sd": 0.0}
    json.dumps(said, allow_nan=False)


def test_a_net_that_is_not_validated_has_no_accuracy_there(results: Path) -> None:
    for file in results.glob("fold*/a_seed*/train.json"):
        file.write_text(json.dumps({**json.loads(file.read_text()), "val_accuracy": None}))
    runs = {"a": {"weights": "none", "seeds": 2}}
    full = config.complete({**SMALL, "runs": runs, "split": {"folds": 3}})
    names = folds.names(3)
    found = {run: pooled.run_of(results, run, names) for run in full["runs"]}
    said = pooled.summarize(full, found, {}, names)
    assert said["groups"][0]["val_accuracy"] == {"n": 2, "mean": None, "sd": None}
    assert said["best_on_validation"] is None
    json.dumps(said, allow_nan=False)


def test_a_picture_that_two_folds_tested_is_named(results: Path) -> None:
    other = (results / "fold1" / "a_seed1" / "predictions.csv").read_bytes()
    (results / "fold3" / "a_seed1" / "predictions.csv").write_bytes(other)
    with pytest.raises(DataError, match="a was tested in more than one fold"):
        pooled.run_of(results, "a_seed1", folds.names(3))


def test_the_baseline_is_pooled_too(results: Path) -> None:
    assert pooled.linear_of(results, "a_seed1", folds.names(3)) is None
    for n, (size, top1) in enumerate(((3, 2 / 3), (4, 1.0), (1, 0.0)), 1):
        file = results / f"fold{n}" / "a_seed1" / "linear.json"
        file.write_text(json.dumps({"n": size, "top1": top1}))
    found = pooled.linear_of(results, "a_seed1", folds.names(3))
    assert found and (found["n"], found["hits"], found["top1"]) == (8, 6, 0.75)
