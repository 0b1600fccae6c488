"""The report of a cross validation: its folds as one test, with each fold's own report beside it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from recaffe import provenance
from recaffe.evaluate import answers, groups, pooled
from recaffe.files import write_json, write_text
from recaffe.folds import SHARED
from recaffe.report import build, collect
from recaffe.report.sections import calibration, classes, folds, pictures, runs
from recaffe.report.sections import provenance as sources
from recaffe.tables import rows

ORDER = (folds, runs, classes, pictures, calibration, sources)


def write(results: Path, config: dict[str, Any], names: Sequence[str]) -> None:
    """Write folds.json, PAGES and their SHA256SUMS from the folders of the folds, which have their own."""
    facts = gather(results, config, names)
    write_json(results / pooled.FILE, facts["pooled"])
    groups.write(groups.table(config, facts["runs"]), results)
    write_text(results / "report.html", build.render(facts, ORDER))
    write_text(results / "summary.txt", f"{results / 'report.html'}\n{headline(facts)}\n")
    provenance.write_sums(results, (*(f"data/{n}" for n in SHARED), pooled.FILE, *provenance.PAGES))


def gather(results: Path, config: dict[str, Any], names: Sequence[str]) -> dict[str, Any]:
    """The facts that the sections show; `names` are the folds' folders in `results`."""
    found = {}
    for name, row in config["runs"].items():
        linear = pooled.linear_of(results, name, names) if _has_linear(config, row) else None
        tables = [results / fold / name / "predictions.csv" for fold in names]
        found[name] = {
            **pooled.run_of(results, name, names),
            "row": row,
            "linear": linear,
            "answers": [answer for table in tables for answer in answers.read(table)],
        }
    first_name, first = next(iter(found.items()))
    linears = {name: run["linear"] for name, run in found.items() if run["linear"]}
    data = results / names[0] / "data"
    return {
        "config": config,
        "title": f"{config['title'] or config['dataset']}, {len(names)}-fold cross validation",
        "labels": [row["name"] for row in rows(data / "classes.csv")],
        "lists": collect.read_json(data / "lists.json"),
        "runs": found,
        "first_name": first_name,
        "first": first,
        "folds": list(names),
        "pooled": pooled.summarize(config, found, linears, names),
        "left_out": sum(int(row["rejected"]) for row in rows(data / "classes.csv")),
        "provenance": list(provenance.versions().items()),
    }


def _has_linear(config: dict[str, Any], row: dict[str, Any]) -> bool:
    return bool(config["baselines"]["linear"]) and row["weights"] != "none"


def headline(facts: dict[str, Any]) -> str:
    """The one line that a cross validation ends with."""
    over = facts["first"]["metrics"]["over_folds"]["top1"]
    lines = [(f"over {over['n']} folds", f"{over['mean']:.3f} ± {over['sd']:.3f}")]
    first, *others = collect.comparison(facts)
    return "; ".join(f"{label} {value}" for label, value in (first, *lines, *others))
