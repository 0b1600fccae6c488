"""The learning rates that were tried before a training, and what the test proposes."""

from __future__ import annotations

from typing import Any

from recaffe.report import figures
from recaffe.report.album import Album

TITLE = "Learning rates"


def view(facts: dict[str, Any], album: Album) -> dict[str, Any] | None:
    """`tests`, each with `run`, `note`, `figure` and the `base_lr` that the run has, a number or auto."""
    found = [(name, run) for name, run in facts["runs"].items() if run["lr_range"]]
    if not found:
        return None
    return {
        "tests": [
            {
                "run": name,
                "note": run["lr_range"]["note"],
                "figure": figures.lr_range(
                    str(i), run["lr_range"]["curve"], run["lr_range"]["note"]
                ),
                "base_lr": run["row"]["base_lr"],
            }
            for i, (name, run) in enumerate(found)
        ]
    }
