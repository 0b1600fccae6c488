"""predictions.csv: one row a test picture, everything that metrics and report need."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from recaffe.engines.base import Predictions
from recaffe.errors import DataError
from recaffe.files import write_aside
from recaffe.lmdb.write import Entry
from recaffe.tables import cell_of, text_of

FIXED = ("path", "label", "predicted", "confidence")


@dataclass(frozen=True)
class Table:
    """`paths` N names, `labels` int64 N, `probabilities` float64 N×K, `classes` K names."""

    paths: list[str]
    labels: np.ndarray
    probabilities: np.ndarray
    classes: list[str]

    @property
    def predicted(self) -> np.ndarray:
        """The most probable class of each row, int64 N; the first of equals."""
        return self.probabilities.argmax(1)


def write(table: Table, path: Path) -> None:
    """Write aside and rename; probabilities with 6 significant digits."""
    predicted, confidence = table.predicted, table.probabilities.max(1)
    with write_aside(path) as aside, aside.open("w", encoding="utf-8", newline="") as f:
        out = csv.writer(f, lineterminator="\n")
        out.writerow([*FIXED, *(f"p:{name}" for name in table.classes)])
        for i, name in enumerate(table.paths):
            out.writerow(
                [
                    cell_of(name), cell_of(table.classes[table.labels[i]]),
                    cell_of(table.classes[predicted[i]]),
                    f"{confidence[i]:.6g}", *(f"{p:.6g}" for p in table.probabilities[i]),
                ]
            )  # fmt: skip


def read(path: Path) -> Table:
    """Read a predictions.csv; raises `DataError` if it isn't one."""
    try:
        with path.open(encoding="utf-8", newline="") as f:
            rows = list(csv.reader(f))
        if not rows or tuple(rows[0][:4]) != FIXED or len(rows) < 2 or len(rows[0]) < 5:
            raise ValueError("its head is another")
        classes = [name.removeprefix("p:") for name in rows[0][4:]]
        index = {name: i for i, name in enumerate(classes)}
        return Table(
            [text_of(r[0]) for r in rows[1:]],
            np.array([index[text_of(r[1])] for r in rows[1:]]),
            np.array([[float(p) for p in r[4:]] for r in rows[1:]]),
            classes,
        )
    except (ValueError, KeyError, IndexError, csv.Error) as error:
        raise DataError(
            f"{path} is not a predictions.csv ({error}). Remove it and run again."
        ) from error


def tabulate(found: Predictions, entries: Sequence[Entry], classes: list[str]) -> Table:
    """The net's probabilities beside the listed paths.

    Raises `DataError` unless list and LMDB agree record by record.
    """
    keys = [e.key for e in entries]
    if keys != found.keys or [e.label for e in entries] != found.labels.tolist():
        raise DataError(
            "The test list and the test LMDB don't agree. Remove the LMDB and run again."
        )
    return Table([e.path for e in entries], found.labels, found.scores.astype(np.float64), classes)
