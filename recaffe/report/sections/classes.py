"""The test by class: the confusion matrix, what is confused most, and a row for each class."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np

from recaffe.evaluate.answers import Answer
from recaffe.report.album import Album

TITLE = "Classes"
CONFUSIONS = 10


def view(facts: dict[str, Any], album: Album) -> dict[str, Any]:
    """`confusions`: the pairs most often confused; `matrix`: all that the page's script draws it from."""
    first = facts["first"]
    counts = np.array(first["metrics"]["confusion"])
    cells, most = cells_of(first["answers"]), facts["config"]["report"]["cell_pictures"]
    shown = {cell: found for cell, found in choose(cells, most).items() if found}
    pairs = sorted(
        ((int(n), i, j) for (i, j), n in np.ndenumerate(counts) if n and i != j),
        key=lambda pair: (-pair[0], pair[1], pair[2]),
    )
    return {
        "confusions": pairs[:CONFUSIONS],
        "matrix": {
            "labels": facts["labels"],
            "counts": [[i, j, int(n)] for (i, j), n in np.ndenumerate(counts) if n],
            "orders": orders(counts, facts["labels"], first["metrics"]["classes"]),
            "cells": [
                [i, j, [[album.keep(a.path), a.path, round(a.confidence, 3)] for a in found]]
                for (i, j), found in sorted(shown.items())
            ],
        },
    }


def cells_of(answers: Sequence[Answer]) -> dict[tuple[int, int], list[Answer]]:
    """The pictures behind each cell (true class, predicted one): surest mistakes, least sure hits first."""
    cells: dict[tuple[int, int], list[Answer]] = defaultdict(list)
    for answer in answers:
        cells[answer.label, answer.predicted].append(answer)
    for found in cells.values():
        found.sort(key=lambda a: (a.confidence if a.right else -a.confidence, a.path))
    return cells


def choose(
    cells: dict[tuple[int, int], list[Answer]], most: int
) -> dict[tuple[int, int], list[Answer]]:
    """At most so many pictures in all: one of each class, then mistakes, then more that are right.

    A round takes one of each cell, so that no cell is left out while another has many.
    """
    hits = [cell for cell in sorted(cells) if cell[0] == cell[1]]
    misses = [cell for cell in sorted(cells) if cell[0] != cell[1]]
    chosen: dict[tuple[int, int], list[Answer]] = defaultdict(list)

    def rounds(of: list[tuple[int, int]], first: int, last: int | None) -> None:
        nonlocal most
        deepest = max((len(cells[cell]) for cell in of), default=0)
        for depth in range(first, deepest if last is None else last):
            for cell in of:
                if most and depth < len(cells[cell]):
                    chosen[cell].append(cells[cell][depth])
                    most -= 1

    rounds(hits, 0, 1)
    rounds(misses, 0, None)
    rounds(hits, 1, None)
    return chosen


def orders(
    counts: np.ndarray, labels: Sequence[str], classes: Sequence[dict]
) -> dict[str, list[int]]:
    """Ways to order the matrix, by what they are called."""
    every = range(len(labels))
    return {
        "label": list(every),
        "name": sorted(every, key=lambda i: (labels[i].casefold(), labels[i])),
        "recall, lowest first": sorted(every, key=lambda i: (classes[i]["recall"], i)),
        "test pictures, most first": sorted(every, key=lambda i: (-classes[i]["support"], i)),
        "confused classes together": together(counts),
    }  # fmt: skip


def together(counts: np.ndarray) -> list[int]:
    """An order in which classes that are taken for each other are neighbours.

    The leaves of a tree of average linkage, its branches turned so that neighbours are near; the
    distance of two classes is one less the share of their pictures that goes from either to the other.
    """
    from scipy.cluster.hierarchy import leaves_list, linkage
    from scipy.spatial.distance import squareform

    if len(counts) < 3:
        return list(range(len(counts)))
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    distance = 1 - (shares + shares.T) / 2
    np.fill_diagonal(distance, 0)
    tree = linkage(squareform(distance, checks=False), "average", optimal_ordering=True)
    return [int(i) for i in leaves_list(tree)]
