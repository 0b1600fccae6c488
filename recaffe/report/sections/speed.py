"""How long each stage took."""

from __future__ import annotations

from typing import Any

from recaffe.report.album import Album

TITLE = "Speed"


def view(facts: dict[str, Any], album: Album) -> dict[str, Any]:
    """`longest` and `total` in seconds."""
    seconds = [row["seconds"] for row in facts["stages"]]
    return {"longest": max(seconds, default=0.0), "total": sum(seconds)}
