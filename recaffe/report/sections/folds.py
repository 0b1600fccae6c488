"""A cross validation's result: all folds as one test, and each by itself."""

from __future__ import annotations

from typing import Any

from recaffe.report import collect
from recaffe.report.album import Album

TITLE = "Result"


def view(facts: dict[str, Any], album: Album) -> dict[str, Any]:
    """`comparison` as (label, text), `count` of folds."""
    return {"comparison": collect.comparison(facts), "count": len(facts["folds"])}
