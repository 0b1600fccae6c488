"""The pictures: classes, samples, sizes, mean; what was rejected, and which are twins."""

from __future__ import annotations

from collections import Counter
from statistics import median
from typing import Any

from recaffe.report import figures
from recaffe.report.album import Album, mean_picture

TITLE = "Data"
SAMPLES, SAMPLED_CLASSES, LISTED, GROUPS, BARS = 8, 12, 50, 12, 150


def view(facts: dict[str, Any], album: Album) -> dict[str, Any]:
    """Figures, `samples` as (class, paths), `twins` as lists of rows of duplicates.csv."""
    channels, height, width = facts["shape"]
    pixels = [(int(row["width"]), int(row["height"])) for row in facts["manifest"]]
    return {
        # Of very many there is the table.
        "bars": figures.class_bars(facts["classes"]) if len(facts["classes"]) <= BARS else "",
        "sizes": figures.sizes(pixels, (width, height)),
        "extent": _extent(pixels),
        "formats": Counter(f"{row['format']} {row['mode']}" for row in facts["manifest"]).most_common(),
        "samples": _samples(facts),
        "mean_picture": mean_picture(facts["mean"]),
        "mean_values": ", ".join(f"{v:.1f}" for v in facts["mean"].mean((1, 2))),
        "gray": channels == 1,
        "subtracted": _subtracted(facts["runs"]),
        "twins": _twins(facts["duplicates"]),
        "shown_groups": GROUPS,
        "listed": LISTED,
    }  # fmt: skip


def _extent(pixels: list[tuple[int, int]]) -> list[tuple[str, int, int, int]]:
    """(side, smallest, median, largest) in pixels."""
    sides = (("width", [w for w, _ in pixels]), ("height", [h for _, h in pixels]))
    return [(name, min(v), round(median(v)), max(v)) for name, v in sides]


def _subtracted(runs: dict[str, dict[str, Any]]) -> dict[str, list[str]]:
    """Which runs take what off their pictures."""
    found: dict[str, list[str]] = {}
    for name, run in runs.items():
        mean = run["row"]["mean"]
        words = {"file": "this mean", "none": "nothing"}
        what = words[mean] if isinstance(mean, str) else ", ".join(map(str, mean))
        found.setdefault(what, []).append(name)
    return found


def _samples(facts: dict[str, Any]) -> list[tuple[str, list[str]]]:
    """The first of the shuffled training list, of each class."""
    grid = []
    for label, name in enumerate(facts["labels"][:SAMPLED_CLASSES]):
        paths = dict.fromkeys(path for path, own in facts["train"] if own == label)
        grid.append((name, list(paths)[:SAMPLES]))
    return grid


def _twins(duplicates: list[dict[str, str]]) -> list[list[dict[str, str]]]:
    """The table's rows by group."""
    groups: dict[str, list[dict[str, str]]] = {}
    for row in duplicates:
        groups.setdefault(row["group"], []).append(row)
    return list(groups.values())
