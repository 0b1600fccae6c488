"""How long each stage took."""

from __future__ import annotations

from typing import Any

from recaffe.report.album import Album

TITLE = "Speed"
LEAST = 0.005


def view(facts: dict[str, Any], album: Album) -> dict[str, Any]:
    """The stages that took `LEAST` of the time or more, those that didn't, and seconds in all."""
    stages = facts["stages"]
    total = sum(row["seconds"] for row in stages)
    long = [row for row in stages if row["seconds"] >= LEAST * total]
    short = [row for row in stages if row["seconds"] < LEAST * total]
    return {
        "tables": [long, short] if short else [long],
        "longest": max((row["seconds"] for row in stages), default=0.0),
        "total": total,
    }
