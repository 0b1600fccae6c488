"""The baseline that fine-tuning must beat: a logistic regression on frozen features."""

from __future__ import annotations

import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from recaffe.engines import pick
from recaffe.engines.base import Predictions, PredictJob
from recaffe.evaluate.metrics import wilson
from recaffe.net import graph
from recaffe.net.parse import read_net
from recaffe.proto import caffe_pb2 as pb

# Strengths of the penalty to choose from on the validation set.
STRENGTHS = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0)


def features_below_head(deploy: Path) -> str:
    """Name of the blob that the deploy net's classifier reads."""
    layers = graph.of_phase(read_net(deploy), pb.TEST)
    heads = [x for x in layers if x.type in graph.CLASSIFIERS]
    return heads[-1].bottom[0]


def fit(job: PredictJob, train: Path, val: Path, test: Path) -> dict[str, Any]:
    """Test accuracy of the classifier on `job`'s pretrained weights, with its Wilson interval.

    The penalty is chosen on the validation set; the test set is looked at once.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import StandardScaler

    blob = features_below_head(job.deploy)
    sets: list[Predictions] = [
        pick.predict(replace(job, lmdb=path), f"features {path.name}", blob)
        for path in (train, val, test)
    ]
    scaler = StandardScaler().fit(sets[0].scores)
    x = [scaler.transform(s.scores) for s in sets]
    best_score, best_c, best = -1.0, 0.0, None
    for c in STRENGTHS:
        model = LogisticRegression(C=c, max_iter=300)
        with warnings.catch_warnings():
            # A little short of the optimum is as good a baseline.
            warnings.simplefilter("ignore", ConvergenceWarning)
            model.fit(x[0], sets[0].labels)
        score = float(model.score(x[1], sets[1].labels))
        if score > best_score:
            best_score, best_c, best = score, c, model
    assert best is not None
    hits = int((best.predict(x[2]) == sets[2].labels).sum())
    low, high = wilson(hits, len(x[2]))
    return {
        "blob": blob, "features": int(np.shape(x[0])[1]), "C": best_c, "n": len(x[2]),
        "val": best_score, "top1": hits / len(x[2]), "top1_low": low, "top1_high": high,
    }  # fmt: skip
