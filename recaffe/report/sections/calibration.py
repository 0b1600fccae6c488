"""Whether the net knows how sure it may be."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from recaffe.evaluate.answers import Answer
from recaffe.evaluate.metrics import wilson
from recaffe.report import figures
from recaffe.report.album import Album

TITLE = "Calibration"
THRESHOLDS = (0.0, 0.5, 0.7, 0.8, 0.9, 0.95, 0.99)


def view(facts: dict[str, Any], album: Album) -> dict[str, Any]:
    """The reliability diagram, and `thresholds`: what would be if only sure answers were taken."""
    first = facts["first"]
    return {
        "reliability": figures.reliability(first["metrics"]["reliability"]),
        "thresholds": thresholds(first["answers"]),
    }


def thresholds(answers: Sequence[Answer]) -> list[dict[str, Any]]:
    """For each threshold that some picture passes: how many do, and how many of them are right."""
    found = []
    for least in THRESHOLDS:
        sure = [answer for answer in answers if answer.confidence >= least]
        if not sure:
            continue
        hits = sum(answer.right for answer in sure)
        low, high = wilson(hits, len(sure))
        found.append(
            {
                "least": least, "n": len(sure), "share": len(sure) / len(answers),
                "accuracy": hits / len(sure), "low": low, "high": high,
            }
        )  # fmt: skip
    return found
