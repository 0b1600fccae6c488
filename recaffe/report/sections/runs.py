"""Several runs beside each other: which is better, and whether that is more than chance."""

from __future__ import annotations

from typing import Any

from recaffe.evaluate import groups, significance
from recaffe.report import figures
from recaffe.report.album import Album

TITLE = "Runs"


def view(facts: dict[str, Any], album: Album) -> dict[str, Any] | None:
    """The table of runs, and `pairs`: McNemar's tests.

    `settings` are the names of those in which the runs differ, `values` what each run has for them.
    `groups` are runs that differ in the seed only, if there are any; `best` is the group to take of three
    or more.
    """
    runs, rows = facts["runs"], facts["config"]["runs"]
    if len(runs) < 2:
        return None
    differ = groups.differing(rows)
    measured = [(name, run["metrics"]) for name, run in runs.items()]
    found = groups.of_table(groups.table(facts["config"], runs))
    return {
        "settings": differ,
        "values": {name: [groups.text(rows[name][key]) for key in differ] for name in runs},
        "groups": found if len(found) < len(runs) else [],
        "best": groups.best(found) if len(found) > 2 else None,
        "of": len(found),
        "pairs": significance.compare({name: run["answers"] for name, run in runs.items()}),
        "every_pair": len(runs) <= significance.ALL_PAIRS,
        "intervals": figures.intervals(
            [(name, m["top1"], m["top1_low"], m["top1_high"]) for name, m in measured]
        ),
    }
