"""The report: one HTML file that needs nothing else, from the facts that were collected."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape
from markupsafe import Markup

from recaffe.report import collect, figures

SAMPLES_A_CLASS, SAMPLED_CLASSES, LISTED = 7, 12, 50


def render(facts: dict[str, Any]) -> str:
    """The HTML text. File and class names are escaped; figures are inline SVG."""
    environment = Environment(
        loader=PackageLoader("recaffe.report", "."),
        autoescape=select_autoescape(default=True, default_for_string=True),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["million"] = lambda n: f"{n / 1e6:,.2f} M"
    environment.filters["mib"] = lambda n: f"{n / 2**20:,.0f} MiB"
    first_name, first = next(iter(facts["runs"].items()))
    config = facts["config"]
    return environment.get_template("template.html.j2").render(
        **facts,
        first_name=first_name,
        first=first,
        accuracy=collect.accuracy,
        comparison=collect.comparison(facts),
        formats=collect.formats(facts["manifest"]),
        config_text=yaml.safe_dump(config, sort_keys=False, allow_unicode=True),
        samples=_samples(facts),
        mean_picture=figures.mean_picture(facts["mean"]),
        mean_values=", ".join(f"{v:.1f}" for v in facts["mean"].mean((1, 2))),
        mistakes=_mistakes(facts, first),
        listed=LISTED,
        bars=Markup(figures.class_bars(facts["classes"])),
        curves=Markup(figures.curves(facts["runs"])),
        confusion=Markup(figures.confusion(first["metrics"]["confusion"], facts["labels"])),
        reliability=Markup(figures.reliability(first["metrics"]["reliability"])),
    )


def _picture(facts: dict[str, Any], path: str) -> str:
    return figures.thumbnail(Path(facts["lists"]["root"]) / path, facts["config"])


def _samples(facts: dict[str, Any]) -> list[tuple[str, list[tuple[str, str]]]]:
    """(class, [(path, data URI)]): the first of the shuffled training list."""
    grid = []
    for label, name in enumerate(facts["labels"][:SAMPLED_CLASSES]):
        paths = list(dict.fromkeys(path for path, own in facts["train"] if own == label))
        grid.append((name, [(p, _picture(facts, p)) for p in paths[:SAMPLES_A_CLASS]]))
    return grid


def _mistakes(facts: dict[str, Any], run: dict[str, Any]) -> list[dict[str, Any]]:
    """The test pictures that the net was surest about and wrong, worst first."""
    wrong = [row for row in run["predictions"] if row["label"] != row["predicted"]]
    wrong.sort(key=lambda row: (-float(row["confidence"]), row["path"]))
    return [
        {**row, "image": _picture(facts, row["path"])}
        for row in wrong[: facts["config"]["report"]["mistakes"]]
    ]
