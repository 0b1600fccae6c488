"""Runs beside each other: tables, mean ± standard deviation over seeds, and which one is best."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from recaffe import config
from recaffe.evaluate import groups
from recaffe.report import collect
from recaffe.report.album import Album
from recaffe.report.sections import runs as section
from tests.unit.test_config import SMALL


def measured(top1: float, val: float | None) -> dict[str, Any]:
    keys = {"n": 10, "top1_low": 0.0, "top1_high": 1.0, "macro_f1": top1, "log_loss": 1.0}
    return {"metrics": {"top1": top1, **keys}, "train": {"val_accuracy": val}, "curve": []}


def test_the_best_run_is_asked_of_the_validation_pictures() -> None:
    runs = {"a": {"sweep": {"base_lr": [0.1, 0.2]}, "seeds": 2}, "b": {"epochs": 9}}
    full = config.complete({**SMALL, "train": {"weights": "none"}, "runs": runs})
    values = [(0.9, 0.5), (0.9, 0.6), (0.7, 0.7), (0.8, 0.8), (1.0, None)]
    found = {name: measured(*pair) for name, pair in zip(full["runs"], values, strict=True)}
    rows = groups.table(full, found)
    assert list(rows[0])[:5] == ["run", "group", "epochs", "base_lr", "seed"]
    own = {group.name: group for group in groups.of_table(rows)}
    assert list(own) == ["a_base_lr0.1", "a_base_lr0.2", "b"]
    assert str(own["a_base_lr0.2"].measures["accuracy"]) == "0.750 ± 0.071"
    assert str(own["b"].measures["accuracy"]) == "1.000"
    best = groups.best(list(own.values()))
    assert best and best.name == "a_base_lr0.2", "b tests best, but was not validated"


def test_the_tables_can_be_read_by_a_program(tmp_path: Path) -> None:
    full = config.complete(
        {**SMALL, "runs": {"a": {"weights": "none", "sweep": {"heads": [[], ["=x", "y"]]}}}}
    )
    found = {name: measured(0.5, None) for name in full["runs"]}
    groups.write(groups.table(full, found), tmp_path)
    runs = (tmp_path / "runs.csv").read_text().splitlines()
    assert runs[1] == "a_heads-none,a_heads-none,,10,0.5,0,1,,0.5,1,0"
    assert "'=x y" in runs[2], "no formula for a spreadsheet"
    assert ",nan" not in (tmp_path / "groups.csv").read_text()


def test_a_single_value_has_no_deviation() -> None:
    one, two = groups.spread([0.25]), groups.spread([1, 3])
    assert math.isnan(one.sd) and str(one) == "0.250"
    assert (two.n, two.mean, two.sd) == (2, 2.0, pytest.approx(2**0.5))


def facts(runs: dict[str, Any], *values: tuple[float, float | None]) -> dict[str, Any]:
    """What the summary is made of."""
    full = config.complete({**SMALL, "train": {"weights": "none"}, "runs": runs})
    found = {name: measured(*pair) for name, pair in zip(full["runs"], values, strict=True)}
    for name, run in found.items():
        run |= {"row": full["runs"][name], "linear": None}
        run["metrics"] |= {"majority_class": "cat", "majority": 0.5}
    return {"config": full, "runs": found}


def test_the_report_shows_the_settings_that_differ_and_the_best_by_validation() -> None:
    runs = {"a": {"sweep": {"epochs": [1, 2, 3]}, "mirror": False}}
    given = facts(runs, (0.5, 0.5), (0.9, 0.6), (0.6, 0.8))
    for run in given["runs"].values():
        run["answers"] = []
    view = section.view(given, Album(Path(), given["config"]["scan"]))
    assert view and view["settings"] == ["epochs"]
    assert view["values"] == {f"a_epochs{n}": [str(n)] for n in (1, 2, 3)}
    assert (view["best"].name, view["of"], view["groups"]) == ("a_epochs3", 3, [])
    given = facts({"a": {"seeds": 2}}, (0.5, None), (0.9, None))
    for run in given["runs"].values():
        run["answers"] = []
    view = section.view(given, Album(Path(), given["config"]["scan"]))
    assert view and view["best"] is None and view["groups"][0].runs == ["a_seed1", "a_seed2"]


def test_the_summary_of_two_runs_names_both_and_no_winner() -> None:
    said = collect.headline(facts({"a": {}, "b": {"epochs": 9}}, (0.9, 0.5), (0.8, 0.7)))
    assert said == (
        "a: test accuracy 0.900 (95 % interval 0.000 to 1.000, N = 10); majority class (cat) 0.500; "
        "b (from scratch) 0.800"
    )


def test_seeds_are_one_line_of_the_summary() -> None:
    values = ((0.8, 0.5), (0.9, 0.5), (0.5, 0.5), (0.7, 0.5))
    said = collect.headline(facts({"a": {"seeds": 2}, "b": {"epochs": 9, "seeds": 2}}, *values))
    assert "; a, 2 seeds 0.850 ± 0.071;" in said
    assert said.endswith("; b (from scratch, 2 seeds) 0.600 ± 0.141")


def test_of_many_runs_the_summary_names_the_best_on_the_validation_pictures() -> None:
    runs = {"a": {"sweep": {"epochs": [1, 2, 3, 4, 5, 6]}}}
    values = ((0.5, 0.5), (0.9, 0.6), (0.6, 0.8), (0.6, 0.7), (0.6, 0.7), (0.6, 0.7))
    said = collect.headline(facts(runs, *values))
    assert "a_epochs3, best of 6 by validation accuracy: test accuracy 0.600" in said
    assert "a_epochs2" not in said, "it tests best, by luck"
