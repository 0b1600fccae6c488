"""Runs beside each other: a row a run, mean ± standard deviation over seeds, and which run to take.

Which is best is asked of the validation pictures alone. The best of many on the test pictures would be the
luckiest there, and its accuracy no longer that of new pictures.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from recaffe import sweeps
from recaffe.augment import Augment
from recaffe.files import write_aside
from recaffe.tables import cell_of

RUNS, GROUPS = "runs.csv", "groups.csv"
MEASURED = ("accuracy", "val_accuracy", "macro_f1", "log_loss")
# Where a training runs and is followed changes no number of it.
_WHERE = ("runtime", "image", "gpus", "shm_size", "trackers", "mlflow_uri")


@dataclass(frozen=True)
class Spread:
    """Of `n` values: their mean, and the sample's standard deviation (n - 1), nan for a single one."""

    n: int
    mean: float
    sd: float

    def __str__(self) -> str:
        return f"{self.mean:.3f}" if math.isnan(self.sd) else f"{self.mean:.3f} ± {self.sd:.3f}"


@dataclass(frozen=True)
class Group:
    """Runs that differ in nothing but the seed, and how each measure spreads over them."""

    name: str
    runs: list[str]
    measures: dict[str, Spread]


def spread(values: Iterable[float]) -> Spread:
    """Mean and standard deviation of one or more values; nan where one of them is."""
    found = list(values)
    if any(map(math.isnan, found)):
        return Spread(len(found), math.nan, math.nan)
    return Spread(len(found), fmean(found), stdev(found) if len(found) > 1 else math.nan)


def table(config: Mapping[str, Any], runs: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    """One row a run: name, group, the settings in which the runs differ, and what was measured.

    `config` is complete; each of `runs` has `metrics` (metrics.json's), `train` (train.json's) and `curve`
    (train.csv's rows). A val_accuracy that wasn't measured is nan.
    """
    group_of = {run: name for name, members in sweeps.groups(config).items() for run in members}
    differ = differing(config["runs"])
    rows = []
    for name, run in runs.items():
        m, val = run["metrics"], run["train"]["val_accuracy"]
        rows.append(
            {
                "run": name,
                "group": group_of[name],
                **{key: config["runs"][name][key] for key in differ},
                "n": m["n"],
                "accuracy": m["top1"],
                "accuracy_low": m["top1_low"],
                "accuracy_high": m["top1_high"],
                "val_accuracy": math.nan if val is None else val,
                "macro_f1": m["macro_f1"],
                "log_loss": m["log_loss"],
                "seconds": float(run["curve"][-1]["seconds"]) if run["curve"] else 0.0,
            }
        )
    return rows


def differing(rows: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Settings that are not the same in all runs, in the order of the config's reference."""
    first, *others = rows.values()
    return [
        key
        for key, value in first.items()
        if key not in _WHERE and any(row[key] != value for row in others)
    ]


def of_table(rows: Sequence[Mapping[str, Any]]) -> list[Group]:
    """The groups of a table's runs, in its order."""
    members: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows:
        members.setdefault(row["group"], []).append(row)
    return [
        Group(
            name,
            [row["run"] for row in own],
            {key: spread(row[key] for row in own) for key in MEASURED},
        )
        for name, own in members.items()
    ]


def best(groups: Sequence[Group]) -> Group | None:
    """The group with the highest mean validation accuracy, the first of equals; None where none has one."""
    measured = [g for g in groups if not math.isnan(g.measures["val_accuracy"].mean)]
    return max(measured, key=lambda g: g.measures["val_accuracy"].mean, default=None)


def write(rows: Sequence[Mapping[str, Any]], folder: Path) -> None:
    """Write runs.csv and groups.csv into a folder; what wasn't measured is empty."""
    _write(folder / RUNS, rows)
    _write(
        folder / GROUPS,
        [
            {
                "group": group.name,
                "runs": " ".join(group.runs),
                "n": len(group.runs),
                **{
                    f"{key}_{part}": getattr(found, part)
                    for key, found in group.measures.items()
                    for part in ("mean", "sd")
                },
            }
            for group in of_table(rows)
        ],
    )


def _write(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    with write_aside(path) as aside, aside.open("w", encoding="utf-8", newline="") as f:
        out = csv.writer(f, lineterminator="\n")
        out.writerow(rows[0])
        out.writerows([cell_of(text(value)) for value in row.values()] for row in rows)


def text(value: Any) -> str:
    """A setting's or a measure's value in words; what wasn't measured has none."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return " ".join(map(text, value))
    if isinstance(value, dict):  # the one that there is
        return str(Augment.of(value)) or "none"
    if isinstance(value, float):
        return "" if math.isnan(value) else f"{value:.6g}"
    return str(value)
