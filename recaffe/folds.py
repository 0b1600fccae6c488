"""Cross validation: the folders of its folds, and what each of them is told.

results/DATASET/foldN holds what results/DATASET holds without folds: data/ with lists, LMDBs and mean, the
runs, a report. What is known of the pictures themselves is in the data set's own data/, once; a fold's
data/ has links to it.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from recaffe.errors import DataError
from recaffe.images import inventory

# What all folds have in common.
SHARED = ("inventory.csv", "classes.txt", "manifest.csv", "rejected.csv")


def names(count: int) -> list[str]:
    """Folders of so many folds; none for 0."""
    return [f"fold{n}" for n in range(1, count + 1)]


def of_fold(config: Mapping[str, Any], fold: str) -> dict[str, Any]:
    """A completed config as the fold of that name sees it: `split` has `fold`, (which, of how many).

    Without folds, `fold` is "" and `split` what it was before there were any.
    """
    split = {key: value for key, value in config["split"].items() if key != "folds"}
    if not fold:
        return {**config, "split": split}
    number, count = int(fold.removeprefix("fold")), config["split"]["folds"]
    del split["test"]  # each fold tests its share
    title = f"{config['title'] or config['dataset']}, fold {number} of {count}"
    return {**config, "title": title, "split": {**split, "fold": [number, count]}}


def check(listed: Path) -> None:
    """Raises `DataError` where the pictures of an inventory, if there is one yet, come in sets already."""
    if listed.is_file():
        refuse_given({row["split"] for row in inventory.read(listed)})


def refuse_given(sets: set[str]) -> None:
    """Raises `DataError` where pictures are given as validation or test pictures."""
    if given := sorted(sets & {"val", "test"}):
        raise DataError(
            f"split.folds divides all pictures into training and test, but {' and '.join(given)} "
            "pictures are given as such by folders, lists or a column. Set split.folds to 0, or name "
            "one folder of class folders."
        )


def share(data: Path, own: Path) -> None:
    """Link what all folds have in common from the data set's data folder to a fold's own."""
    if data == own:
        return
    own.mkdir(parents=True, exist_ok=True)
    for name in SHARED:
        link, target = own / name, Path(os.path.relpath(data / name, own))
        if link.is_symlink() and link.readlink() == target:
            continue
        link.unlink(missing_ok=True)
        link.symlink_to(target)
