"""predictions → metrics, each picture counted once."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from recaffe.evaluate.predictions import Table

BINS = 15  # as in Guo et al., "On calibration of modern neural networks", 2017


def wilson(hits: int, n: int, z: float = 1.959964) -> tuple[float, float]:
    """Wilson's score interval of a share, 95 % by default (Wilson 1927)."""
    if n == 0:
        return 0.0, 1.0
    share, z2 = hits / n, z * z
    centre = (share + z2 / (2 * n)) / (1 + z2 / n)
    half = z / (1 + z2 / n) * math.sqrt(share * (1 - share) / n + z2 / (4 * n * n))
    return max(0.0, centre - half), min(1.0, centre + half)


def confusion(labels: np.ndarray, predicted: np.ndarray, classes: int) -> np.ndarray:
    """int64 K×K: rows are true classes, columns predicted ones."""
    return np.bincount(labels * classes + predicted, minlength=classes**2).reshape(classes, classes)


def reliability(table: Table) -> list[dict[str, float]]:
    """For each of 15 equal bins of confidence that holds pictures: edges, n, confidence, accuracy."""
    confidence = table.probabilities.max(1)
    right = table.predicted == table.labels
    which = np.minimum((confidence * BINS).astype(int), BINS - 1)
    return [
        {
            "from": b / BINS, "to": (b + 1) / BINS, "n": int((which == b).sum()),
            "confidence": float(confidence[which == b].mean()),
            "accuracy": float(right[which == b].mean()),
        }
        for b in range(BINS)
        if (which == b).any()
    ]  # fmt: skip


def compute(table: Table) -> dict[str, Any]:
    """Everything that metrics.json holds, from the predictions alone."""
    n, k = table.probabilities.shape
    matrix = confusion(table.labels, table.predicted, k)
    hits = int(np.trace(matrix))
    own = table.probabilities[np.arange(n), table.labels]
    better = (table.probabilities > own[:, None]).sum(1)
    support, claimed, right = matrix.sum(1), matrix.sum(0), np.diag(matrix)
    precision = np.divide(right, claimed, out=np.zeros(k), where=claimed > 0)
    recall = np.divide(right, support, out=np.zeros(k), where=support > 0)
    both = precision + recall
    f1 = np.divide(2 * precision * recall, both, out=np.zeros(k), where=both > 0)
    bins = reliability(table)
    low, high = wilson(hits, n)
    result: dict[str, Any] = {
        "n": n,
        "hits": hits,
        "top1": hits / n,
        "top1_low": low,
        "top1_high": high,
        "majority": float(support.max() / n),
        "majority_class": table.classes[int(support.argmax())],
        "macro_f1": float(f1[support > 0].mean()),
        "log_loss": float(-np.log(np.maximum(own, 1e-12)).mean()),
        "ece": sum(b["n"] / n * abs(b["confidence"] - b["accuracy"]) for b in bins),
        "reliability": bins,
        "confusion": matrix.tolist(),
        "classes": [
            {
                "name": name, "support": int(support[i]), "precision": float(precision[i]),
                "recall": float(recall[i]), "f1": float(f1[i]),
            }
            for i, name in enumerate(table.classes)
        ],
    }  # fmt: skip
    if k > 5:
        result["top5"] = float((better < 5).mean())
    return result
