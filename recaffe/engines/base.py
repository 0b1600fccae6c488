"""The contract of both engines: plain jobs in, events and a result out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np


@dataclass(frozen=True)
class TrainJob:
    """Everything an engine needs to train, as plain data.

    `solver` names the nets; `weights` is a caffemodel or None. Snapshots go to the folder
    `snapshots`, which belongs to this very job: what is found there is resumed. `copy` lists the
    layers to take from `weights`.
    """

    solver: Path
    snapshots: Path
    weights: Path | None
    copy: tuple[str, ...]
    final: Path
    log: Path
    csv: Path
    select: str = "best"
    patience: int = 0
    threads: int = 1
    device: str = "auto"
    title: str = "train"
    iters_per_epoch: float = 0.0


@dataclass(frozen=True)
class TrainResult:
    """What a training ended with. `iteration` is that of the weights in `final`."""

    iteration: int
    last_iteration: int
    val_accuracy: float
    reason: str
    images_per_second: float
    device: str


@dataclass(frozen=True)
class PredictJob:
    """Weights and deploy net to run over an LMDB, in the LMDB's order."""

    deploy: Path
    weights: Path
    lmdb: Path
    crop_size: int = 0
    scale: float = 1.0
    mean_file: Path | None = None
    mean_values: tuple[float, ...] = ()
    batch_size: int = 64
    threads: int = 1
    device: str = "auto"


@dataclass(frozen=True)
class Predictions:
    """`scores` is float32 N×K, `labels` int64 N, `keys` the N records' keys, in LMDB order."""

    scores: np.ndarray
    labels: np.ndarray
    keys: list[str]


# ---- events -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Step:
    """Shown before update `iteration`, as Caffe does; `loss` is smoothed over `average_loss`.

    `lapse` is the seconds and `steps` the iterations since the step that was shown before.
    """

    iteration: int
    loss: float
    lr: float
    images_per_second: float
    lapse: float
    steps: int
    outputs: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Test:
    """Means over the validation set after `iteration` updates, by output blob."""

    __test__ = False  # not a test case, whatever its name says to pytest
    iteration: int
    outputs: Mapping[str, float]
    accuracy: float
    loss: float


@dataclass(frozen=True)
class Snapshot:
    """Files that hold the state after `iteration` updates."""

    iteration: int
    model: Path
    state: Path


Event = Step | Test | Snapshot
