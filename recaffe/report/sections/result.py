"""The accuracy, with its interval and N, and what it must be seen beside."""

from __future__ import annotations

from typing import Any

from recaffe.report import collect
from recaffe.report.album import Album

TITLE = "Result"


def view(facts: dict[str, Any], album: Album) -> dict[str, Any]:
    """`comparison` as (label, text)."""
    return {"comparison": collect.comparison(facts)}
