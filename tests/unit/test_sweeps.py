"""Rows of `runs` that stand for many: which runs they make, how those are called, which belong together."""

from __future__ import annotations

import re
from typing import Any

import pytest
import yaml

from recaffe import config, sweeps
from recaffe.errors import ConfigError


def complete(runs: dict[str, Any], **more: Any) -> dict[str, Any]:
    train = {"weights": "none", **more.pop("train", {})}
    return config.complete({"dataset": "d", "images": "x", "train": train, "runs": runs, **more})


def names(runs: dict[str, Any], **more: Any) -> list[str]:
    return list(complete(runs, **more)["runs"])


def test_seeds_make_a_run_each_and_nothing_else_differs() -> None:
    runs = complete({"fine": {"seeds": [1, 5], "base_lr": 0.5}, "other": {}})["runs"]
    assert list(runs) == ["fine_seed1", "fine_seed5", "other"]
    assert {**runs["fine_seed1"], "seed": 5} == runs["fine_seed5"]
    assert runs["fine_seed5"]["base_lr"] == 0.5
    assert not {"seeds", "sweep"} & set(runs["fine_seed1"]), "rows are plain ones"
    assert names({"fine": {"seeds": 3}}) == ["fine_seed1", "fine_seed2", "fine_seed3"]


def test_a_sweep_makes_each_combination_once() -> None:
    row = {"sweep": {"net": ["lenet", "quick"], "base_lr": [0.1, 1e-5]}, "seeds": 2, "epochs": 3}
    runs = complete({"grid": row})["runs"]
    assert list(runs)[:4] == [
        "grid_lenet_base_lr0.1_seed1",
        "grid_lenet_base_lr0.1_seed2",
        "grid_lenet_base_lr1e-05_seed1",
        "grid_lenet_base_lr1e-05_seed2",
    ]
    points = {(run["net"], run["base_lr"], run["seed"]) for run in runs.values()}
    assert len(points) == len(runs) == 8
    assert {run["epochs"] for run in runs.values()} == {3}


def test_a_value_that_is_added_renames_nothing() -> None:
    few = names({"a": {"sweep": {"base_lr": [0.1, 0.2]}, "seeds": [3, 1]}})
    more = names({"a": {"sweep": {"base_lr": [0.3, 0.2, 0.1]}, "seeds": [1, 2, 3]}})
    assert set(few) < set(more)


def test_names_are_safe_for_folders_whatever_the_values() -> None:
    sweep = {
        "head_lr_mult": [[1, 2], [10, 20.5]],
        "freeze_to": ["", "fire5/concat"],
        "mirror": [True, False],
        "mean": ["none", [1, 2, 3.5]],
        "weights": ["none", "https://example.org/a b/vgg.caffemodel", "/my/net ü/final.caffemodel"],
    }
    made = names({"a": {"sweep": sweep}})
    assert len(made) == 48
    for name in made:
        assert re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]*", name), name
    assert "a_head_lr_mult1-2_freeze_to-fire5-concat_mirror-true_mean1-2-3.5_weights-vgg" in made
    assert any(name.endswith("_weights-net") for name in made), "final.caffemodel says nothing"


def test_a_mapping_names_the_values() -> None:
    runs = complete({"a": {"sweep": {"base_lr": {"slow": 0.1, "fast": 1}}}})["runs"]
    assert {name: run["base_lr"] for name, run in runs.items()} == {"a_slow": 0.1, "a_fast": 1}


@pytest.mark.parametrize(
    ("runs", "message"),
    [
        ({"a": {"sweep": {"base_rl": [1]}}}, r"'base_rl' at runs\.a\.sweep\. Did you mean 'base_lr'"),
        ({"a": {"sweep": {"base_lr": [1, -1]}}}, r"runs\.a\.sweep\.base_lr\.1 is -1.*more than 0"),
        ({"a": {"sweep": {"base_lr": {"x": -1}}}}, r"runs\.a\.sweep\.base_lr\.x is -1"),
        ({"a": {"sweep": {"base_lr": 1}}}, r"runs\.a\.sweep\.base_lr is 1.*array or object"),
        ({"a": {"sweep": {"base_lr": []}}}, r"runs\.a\.sweep\.base_lr is \[\].*at least 1 values"),
        ({"a": {"sweep": {}}}, r"runs\.a\.sweep is \{\}.*at least one entry"),
        ({"a": {"sweep": {"base_lr": [1, 1]}}}, r"runs\.a\.sweep\.base_lr.*values differ"),
        ({"a": {"sweep": {"base_lr": [1]}, "base_lr": 2}}, r"runs\.a has base_lr: 2 and sweep"),
        ({"a": {"seeds": [1, 1]}}, r"runs\.a\.seeds.*values differ"),
        ({"a": {"seeds": 0}}, r"runs\.a\.seeds is 0.*at least 1"),
        ({"a": {"seeds": [1, -1]}}, r"runs\.a\.seeds\.1 is -1"),
        ({"a": {"seeds": [1, 2], "seed": 3}}, r"runs\.a has seed: 3 and seeds"),
        ({"a": {"seeds": 2, "sweep": {"seed": [1]}}}, r"runs\.a\.seeds and runs\.a\.sweep\.seed"),
        ({"a": {"seeds": 1}, "a_seed1": {}}, r"runs\.a and runs\.a_seed1 both make.* a_seed1"),
        ({"a": {"seeds": 201}}, r"201 runs, more than max_runs \(200\); runs\.a alone for 201"),
        ({"a": {"seeds": 10**12}}, r"runs\.a\.seeds.*at most 10000"),
        ({"a": {"sweep": {"heads": [["x" * 150]]}}}, r"runs\.a\.sweep.*more than 120"),
        ({"a": {"sweep": {"weights": ["a/x.caffemodel", "b/x.caffemodel"]}}},
         r"runs\.a\.sweep\.weights has 'a/x.caffemodel' and 'b/x.caffemodel'.*NAME: VALUE"),
        ({"a": {"sweep": {"net": ["lenet", "vgg99"]}}}, r"no net 'vgg99'"),
        ({"a": {"sweep": {"crop_size": [0, 999]}}}, r"runs\.a_crop_size999\.crop_size is 999, larger"),
    ],
)  # fmt: skip
def test_a_mistake_names_row_and_key(runs: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        complete(runs)


def test_a_large_grid_wants_to_be_meant() -> None:
    grid = {"a": {"sweep": {key: [i / 999 for i in range(90)] for key in ("gamma", "momentum")}}}
    with pytest.raises(ConfigError, match=r"8,100 runs"):
        complete(grid)
    assert len(names({"a": {"seeds": 201}}, max_runs=201)) == 201
    rows = {f"run{i}": {} for i in range(201)}
    assert len(names(rows)) == 201, "rows that are written out are meant"
    seeds, split = {"a": {"seeds": 30}}, {"folds": 7}
    with pytest.raises(ConfigError, match=r"210 runs in 7 folds, more than.*runs\.a alone for 210"):
        names(seeds, split=split)
    assert len(names(seeds, split=split, max_runs=210)) == 30


@pytest.mark.parametrize(
    ("runs", "found"),
    [
        ({"a": {"seeds": 3}}, {"a": ["a_seed1", "a_seed2", "a_seed3"]}),
        ({"a": {"seeds": [1, 10]}}, {"a": ["a_seed1", "a_seed10"]}),
        ({"a": {}, "b": {"base_lr": 9}}, {"a": ["a"], "b": ["b"]}),
        ({"a": {}, "seed2": {"seed": 2}}, {"a": ["a", "seed2"]}),
        ({"a": {"seeds": 2}, "b": {"seed": 9}}, {"a": ["a_seed1", "a_seed2", "b"]}),
        # What names begin with is taken: by another group, by another run.
        ({"a1": {}, "a2": {"seed": 2}, "a3": {"epochs": 9}, "a4": {"epochs": 9, "seed": 2}},
         {"a1": ["a1", "a2"], "a3": ["a3", "a4"]}),
        ({"a": {"epochs": 9}, "a_1": {}, "a_2": {"seed": 2}}, {"a": ["a"], "a_1": ["a_1", "a_2"]}),
        ({"a": {"sweep": {"epochs": [1, 2]}, "seeds": 2}},
         {"a_epochs1": ["a_epochs1_seed1", "a_epochs1_seed2"],
          "a_epochs2": ["a_epochs2_seed1", "a_epochs2_seed2"]}),
    ],
)  # fmt: skip
def test_runs_that_differ_only_in_the_seed_are_a_group(
    runs: dict[str, Any], found: dict[str, list[str]]
) -> None:
    assert sweeps.groups(complete(runs)) == found


def test_the_users_config_shows_sweeps_that_work() -> None:
    text = (config.ROOT / "config" / "config.yaml").read_text(encoding="utf-8")
    shown = [
        line.strip("# ") for line in text.splitlines() if re.match(r"  # (seeds|rates):", line)
    ]
    rows = yaml.safe_load("\n".join(shown))
    assert len(names(rows)) == 3 + 6
