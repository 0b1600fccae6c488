"""The folds of a cross validation as one test: each picture was tested once, by a net that hadn't seen it.

Nets of different folds share most of their training pictures, so their errors aren't independent: the
interval of the pooled accuracy is about right, the standard deviation over folds somewhat too small
(Bengio and Grandvalet, JMLR 5, 2004).
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from recaffe.errors import DataError
from recaffe.evaluate import groups, metrics, predictions
from recaffe.evaluate.groups import Spread
from recaffe.evaluate.predictions import Table
from recaffe.tables import rows

FILE = "folds.json"
_OF_FOLD = ("n", "hits", "top1", "top1_low", "top1_high", "macro_f1", "log_loss")


def pool(tables: Sequence[Table]) -> Table:
    """One table of the folds' predictions.

    Raises `DataError` where a picture was tested in two folds, or folds have other classes.
    """
    twice = [p for p, n in Counter(p for t in tables for p in t.paths).items() if n > 1]
    if twice:
        raise DataError(
            f"{twice[0]} was tested in more than one fold: these predictions are of different splits. "
            "Remove the folds' predictions.csv and run again."
        )
    if any(table.classes != tables[0].classes for table in tables):
        raise DataError(
            "The folds' predictions.csv have different classes. Remove them and run again."
        )
    return Table(
        [path for table in tables for path in table.paths],
        np.concatenate([table.labels for table in tables]),
        np.concatenate([table.probabilities for table in tables]),
        tables[0].classes,
    )


def run_of(results: Path, run: str, folds: Sequence[str]) -> dict[str, Any]:
    """A run's folds as if they were one run: `metrics`, `train` and `curve` have what those of a run have.

    The metrics are those of all folds' pictures together, with `folds`, those of each, and `over_folds`, their
    mean and standard deviation. `val_accuracy` is the folds' mean, seconds and epochs are their sum.
    """
    places = [results / fold / run for fold in folds]
    pooled = metrics.compute(pool([predictions.read(p / "predictions.csv") for p in places]))
    trained = [_json(place / "train.json") for place in places]
    each = []
    for fold, place, train in zip(folds, places, trained, strict=True):
        m = _json(place / "metrics.json")
        own = {"val_accuracy": train["val_accuracy"], "iteration": train["iteration"]}
        each.append({"fold": fold, **{key: m[key] for key in _OF_FOLD}, **own})
    over = {key: groups.spread(fold[key] for fold in each) for key in ("top1", "macro_f1")}
    validated = [train["val_accuracy"] for train in trained]
    last = [curve[-1] for place in places if (curve := rows(place / "train.csv"))]
    return {
        "metrics": {
            **pooled,
            "folds": each,
            "over_folds": {key: as_json(found) for key, found in over.items()},
        },
        "train": {
            "val_accuracy": None if None in validated else sum(validated) / len(validated),
            "reason": ", ".join(sorted({train["reason"] for train in trained})),
        },
        "curve": [{key: str(sum(float(r[key]) for r in last)) for key in ("epoch", "seconds")}],
    }


def summarize(
    config: Mapping[str, Any],
    runs: Mapping[str, Mapping[str, Any]],
    linear: Mapping[str, Any],
    folds: Sequence[str],
) -> dict[str, Any]:
    """What folds.json says, from `run_of` each run and the pooled `linear` baselines."""
    found = groups.of_table(groups.table(config, runs))
    best = groups.best(found)
    return {
        "folds": list(folds),
        "pictures": next(iter(runs.values()))["metrics"]["n"],
        "runs": {name: run["metrics"] for name, run in runs.items()},
        "groups": [
            {
                "group": group.name,
                "runs": group.runs,
                **{key: as_json(measure) for key, measure in group.measures.items()},
            }
            for group in found
        ],
        "best_on_validation": best.name if best else None,
        "linear": dict(linear),
    }


def linear_of(results: Path, run: str, folds: Sequence[str]) -> dict[str, Any] | None:
    """The baseline on frozen features over all folds; None where it wasn't made."""
    files = [results / fold / run / "linear.json" for fold in folds]
    if not all(file.is_file() for file in files):
        return None
    each = [_json(file) for file in files]
    n = sum(one["n"] for one in each)
    hits = sum(round(one["top1"] * one["n"]) for one in each)
    low, high = metrics.wilson(hits, n)
    return {"n": n, "hits": hits, "top1": hits / n, "top1_low": low, "top1_high": high}


def as_json(spread: Spread) -> dict[str, Any]:
    """A spread for a JSON file, which has no nan: no deviation of a single value, no mean of nothing."""
    mean, sd = (None if np.isnan(x) else x for x in (spread.mean, spread.sd))
    return {"n": spread.n, "mean": mean, "sd": sd}


def _json(path: Path) -> dict[str, Any]:
    value: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return value
