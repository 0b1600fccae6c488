"""What the page and programs may know of a model and of this server."""

from __future__ import annotations

import math
from typing import Any

from recaffe.model.folder import Model
from recaffe.serve import Limits

# Of model.json; the rest says where things lie.
_TOLD = ("title", "dataset", "run", "net", "input", "preprocessing", "metrics", "base", "recaffe")


def about(model: Model, limits: Limits, threshold: float, no_heat_maps: str) -> dict[str, Any]:
    """The answer of GET /api/model."""
    pixels = min(limits.pixels, model.rules["max_pixels"])
    told = {key: model.note[key] for key in _TOLD if key in model.note}
    said: dict[str, Any] = _finite(told)
    return {
        **said,
        "labels": model.labels,
        "threshold": threshold,
        "heat_maps": not no_heat_maps,
        "limits": {"bytes": limits.body, "pictures": limits.pictures, "pixels": pixels},
    }


def _finite(value: Any) -> Any:
    """With null for what JSON has no number for."""
    if isinstance(value, dict):
        return {key: _finite(x) for key, x in value.items()}
    if isinstance(value, list):
        return [_finite(x) for x in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
