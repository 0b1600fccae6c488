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
# A browser takes long over a million cells, and a reader longer.
DRAWN = 150


def view(facts: dict[str, Any], album: Album) -> dict[str, Any]:
    """`confusions`: the pairs most often confused; `matrix`: all that the page's script draws it from;
    `drawn`: how many of the classes are in it."""
    first = facts["first"]
    counts = np.array(first["metrics"]["confusion"])
    pairs = sorted(
        ((int(n), i, j) for (i, j), n in np.ndenumerate(counts) if n and i != j),
        key=lambda pair: (-pair[0], pair[1], pair[2]),
    )
    drawn = most_mistaken(counts)
    place = {label: i for i, label in enumerate(drawn)}
    cells = {
        (place[i], place[j]): found
        for (i, j), found in cells_of(first["answers"]).items()
        if i in place and j in place
    }
    shown = choose(cells, facts["config"]["report"]["cell_pictures"])
    within = counts[np.ix_(drawn, drawn)]
    labels = [facts["labels"][i] for i in drawn]
    return {
        "confusions": pairs[:CONFUSIONS],
        "drawn": len(drawn),
        "matrix": {
            "labels": labels,
            "totals": counts.sum(1)[drawn].tolist(),
            "counts": [[i, j, int(n)] for (i, j), n in np.ndenumerate(within) if n],
            "orders": orders(within, labels, [first["metrics"]["classes"][i] for i in drawn]),
            "cells": [
                [i, j, [[album.keep(a.path), a.path, round(a.confidence, 3)] for a in found]]
                for (i, j), found in sorted(shown.items())
            ],
        },
    }


def most_mistaken(counts: np.ndarray) -> list[int]:
    """The classes that the matrix shows: all, or of very many those with most mistakes in row and column."""
    if len(counts) <= DRAWN:
        return list(range(len(counts)))
    mistakes = counts.sum(0) + counts.sum(1) - 2 * np.diag(counts)
    return sorted(int(i) for i in np.argsort(-mistakes, kind="stable")[:DRAWN])


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
