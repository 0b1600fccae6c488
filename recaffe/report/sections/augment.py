"""How training pictures were changed: one of them, as several epochs would show it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from recaffe.augment import Augment
from recaffe.images import changed
from recaffe.images.decode import RejectError, read
from recaffe.images.record import picture_of
from recaffe.lmdb.datum import parse_datum, pixels
from recaffe.lmdb.write import serialised
from recaffe.report.album import Album, small

TITLE = "Augmentation"
SHOWN = 7  # versions of the picture
_MOST = 4  # settings of which they are shown


def view(facts: dict[str, Any], album: Album) -> dict[str, Any] | None:
    """`settings`: for each that some run has, the `runs`, what it is in `words`, and `versions` of a training
    picture's record as data URIs; none where that can't be read any more."""
    rows = facts["config"]["runs"]
    found: dict[Augment, list[str]] = {}
    for name, row in rows.items():
        if augment := Augment.of(row["augment"]):
            found.setdefault(augment, []).append(name)
    if not found:
        return None
    record = _record(facts)
    return {
        "settings": [
            {
                "runs": runs,
                "words": str(augment),
                "mixes": bool(augment.mixup),
                "versions": _versions(record, augment) if i < _MOST else [],
            }
            for i, (augment, runs) in enumerate(found.items())
        ],
        "original": small(record.transpose(1, 2, 0)) if record is not None else "",
        "example": facts["train"][0][0],
    }


def _record(facts: dict[str, Any]) -> np.ndarray | None:
    """The first training picture as its record, uint8 C×H×W."""
    path = Path(facts["lists"]["root"]) / facts["train"][0][0]
    scan, lmdb = facts["config"]["scan"], facts["config"]["lmdb"]
    try:
        picture = picture_of(read(path), scan, lmdb)
    except RejectError:
        return None
    return pixels(parse_datum(serialised(picture, 0, lmdb)))


def _versions(record: np.ndarray | None, augment: Augment) -> list[str]:
    if record is None or not augment.changes:
        return []
    return [
        small(changed.change(record, augment, np.random.default_rng(i)).transpose(1, 2, 0))
        for i in range(SHOWN)
    ]
