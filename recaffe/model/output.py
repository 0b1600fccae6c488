"""Answers as people and programs read them: an aligned table, CSV, or a JSON object a line."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from typing import Any, TextIO

import numpy as np

from recaffe.tables import cell_of

_NAME = 60  # columns of a picture's name in a table


class Output:
    """Takes a picture's name and its probabilities, and writes to `out` the `top` likeliest classes.

    `kind` is table, csv or jsonl.

    Probabilities have 6 significant digits, as in predictions.csv. A picture whose best one is below
    `threshold` is unsure. A table is written by `end`, which knows how wide its columns are.
    """

    def __init__(
        self, kind: str, labels: list[str], top: int, threshold: float, out: TextIO
    ) -> None:
        self.labels, self.top, self.threshold, self.out = labels, top, threshold, out
        self.unsure = 0
        self._rows: list[list[str]] = []
        self._write: Callable[[str, list[tuple[str, str]], bool], None] = {
            "table": self._table, "csv": self._csv, "jsonl": self._jsonl,
        }[kind]  # fmt: skip
        self._csv_out = csv.writer(out, lineterminator="\n")
        self._begun = False

    def add(self, path: str, scores: np.ndarray) -> None:
        """One picture's answer; `scores` are K."""
        ranking, unsure = ranked(scores, self.labels, self.top, self.threshold)
        self.unsure += unsure
        self._write(shown(path), ranking, unsure)

    def end(self) -> None:
        """Write what is left."""
        if self._rows:
            head = [
                "picture",
                "class",
                "p",
                *[x for _ in range(1, self.top) for x in ("then", "p")],
            ]
            rows = [head, *self._rows]
            widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
            for row in rows:
                print("  ".join(map(str.ljust, row, widths)).rstrip(), file=self.out)
        self.out.flush()

    def _table(self, path: str, ranking: list[tuple[str, str]], unsure: bool) -> None:
        name = path if len(path) <= _NAME else f"…{path[1 - _NAME :]}"
        cells = [x for label, p in ranking for x in (label, f"{float(p):.3f}")]
        cells[0] += " (unsure)" if unsure else ""
        self._rows.append([printable(cell) for cell in (name, *cells)])

    def _csv(self, path: str, ranking: list[tuple[str, str]], unsure: bool) -> None:
        if not self._begun:
            self._begun = True
            names = [f"{x}_{k}" for k in range(2, self.top + 1) for x in ("class", "p")]
            self._csv_out.writerow(["path", "predicted", "confidence", "unsure", *names])
        (label, p), *rest = ranking
        more = [x for name, q in rest for x in (cell_of(name), q)]
        self._csv_out.writerow([cell_of(path), cell_of(label), p, str(unsure).lower(), *more])
        self.out.flush()

    def _jsonl(self, path: str, ranking: list[tuple[str, str]], unsure: bool) -> None:
        row = {"path": path, **as_json(ranking, unsure)}
        print(json.dumps(row, ensure_ascii=False), file=self.out, flush=True)


def ranked(
    scores: np.ndarray, labels: list[str], top: int, threshold: float
) -> tuple[list[tuple[str, str]], bool]:
    """The `top` likeliest classes with their probabilities as text, and whether the best is unsure."""
    # As doubles, so that the digits are those of predictions.csv; of equals, the first.
    values = scores.astype(np.float64)
    order = np.argsort(-values, kind="stable")[:top]
    ranking = [(labels[k], f"{values[k]:.6g}") for k in order]
    # What is printed decides, so that the two never contradict each other.
    return ranking, float(ranking[0][1]) < threshold


def as_json(ranking: list[tuple[str, str]], unsure: bool) -> dict[str, Any]:
    """An answer as programs get it, from `recaffe predict` and from `recaffe serve`."""
    return {
        "predicted": ranking[0][0], "confidence": float(ranking[0][1]), "unsure": unsure,
        "top": [{"class": name, "p": float(p)} for name, p in ranking],
    }  # fmt: skip


def shown(path: str) -> str:
    """A file's name as text: bytes that are no UTF-8 as \\x and their number."""
    return path.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def printable(text: str) -> str:
    """A text that can't move the cursor, or do anything else to a terminal."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
