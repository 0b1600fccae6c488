"""Where the net looked, in a few test pictures."""

from __future__ import annotations

from typing import Any

from recaffe.report.album import Album

TITLE = "Where it looked"


def view(facts: dict[str, Any], album: Album) -> dict[str, Any] | None:
    """`found` is heat_maps.json's content; no section where none are wanted."""
    found = facts["first"]["heat_maps"]
    return None if found is None else {"found": found}
