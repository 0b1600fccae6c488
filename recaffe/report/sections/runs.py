"""Several runs beside each other: which is better, and whether that is more than chance."""

from __future__ import annotations

from statistics import mean, stdev
from typing import Any

from recaffe import sweeps
from recaffe.evaluate import significance
from recaffe.report import figures
from recaffe.report.album import Album

TITLE = "Runs"


def view(facts: dict[str, Any], album: Album) -> dict[str, Any] | None:
    """`seeds`: groups of runs that differ in the seed only; `pairs`: McNemar's tests."""
    runs = facts["runs"]
    if len(runs) < 2:
        return None
    measured = [(name, run["metrics"]) for name, run in runs.items()]
    return {
        "seeds": [
            _spread(name, members, facts)
            for name, members in sweeps.groups(facts["config"]).items()
            if len(members) > 1
        ],
        "pairs": significance.compare({name: run["answers"] for name, run in runs.items()}),
        "every_pair": len(runs) <= significance.ALL_PAIRS,
        "intervals": figures.intervals(
            [(name, m["top1"], m["top1_low"], m["top1_high"]) for name, m in measured]
        ),
    }


def _spread(name: str, members: list[str], facts: dict[str, Any]) -> dict[str, Any]:
    """Mean and standard deviation (of the sample) over seeds."""
    found = [facts["runs"][member]["metrics"] for member in members]
    row: dict[str, Any] = {"name": name, "members": members}
    for key in ("top1", "macro_f1", "log_loss"):
        values = [m[key] for m in found]
        row[key] = (mean(values), stdev(values))
    return row
