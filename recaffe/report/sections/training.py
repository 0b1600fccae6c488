"""How the runs learned."""

from __future__ import annotations

from typing import Any

from recaffe import sweeps
from recaffe.augment import Augment
from recaffe.report import figures
from recaffe.report.album import Album

TITLE = "Training"
CURVES = {"loss": "training loss", "val_accuracy": "validation accuracy", "lr": "learning rate"}


def view(facts: dict[str, Any], album: Album) -> dict[str, Any]:
    """`curves`; `changed`, what was done to a run's pictures, in words; and `legend` as (name, colour,
    dash): runs that differ in the seed only look the same."""
    groups = sweeps.groups(facts["config"])
    styles = {run: i for i, members in enumerate(groups.values()) for run in members}
    tables = {name: run["curve"] for name, run in facts["runs"].items()}
    return {
        "curves": [figures.curve(tables, styles, column, label) for column, label in CURVES.items()],
        "changed": {
            name: str(Augment.of(row["augment"])) for name, row in facts["config"]["runs"].items()
        },
        "legend": [(name, *figures.style_of(i)) for i, name in enumerate(groups)],
    }  # fmt: skip
