"""predictions.csv read row by row: what each picture was called, and how surely."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import NamedTuple

from recaffe.errors import DataError
from recaffe.evaluate.predictions import FIXED
from recaffe.tables import text_of


class Answer(NamedTuple):
    """A test picture's true class, the two most probable ones, and the probabilities of all three."""

    path: str
    label: int
    predicted: int
    second: int
    confidence: float
    second_confidence: float
    own_confidence: float

    @property
    def right(self) -> bool:
        """Whether the most probable class is the true one."""
        return self.label == self.predicted

    @property
    def lead(self) -> float:
        """By how much the most probable class is ahead of the next."""
        return self.confidence - self.second_confidence


def read(path: Path) -> list[Answer]:
    """All rows, a few numbers each: a table of many classes is never in memory as a whole.

    Raises `DataError` if it isn't a predictions.csv.
    """
    try:
        with path.open(encoding="utf-8", newline="") as f:
            lines = csv.reader(f)
            head = next(lines)
            if tuple(head[:4]) != FIXED or len(head) < 6:
                raise ValueError("its head is another")
            index = {name.removeprefix("p:"): i for i, name in enumerate(head[4:])}
            return [_answer(row, index) for row in lines]
    except (ValueError, KeyError, IndexError, StopIteration, csv.Error) as error:
        raise DataError(
            f"{path} is not a predictions.csv ({error}). Remove it and run again."
        ) from error


def _answer(row: list[str], index: dict[str, int]) -> Answer:
    p = [float(value) for value in row[4:]]
    label, first = index[text_of(row[1])], index[text_of(row[2])]
    second = max((i for i in range(len(p)) if i != first), key=p.__getitem__)
    return Answer(text_of(row[0]), label, first, second, p[first], p[second], p[label])
