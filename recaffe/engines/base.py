"""The contract of both engines: plain jobs in, events and a result out."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from recaffe.augment import NOTHING, Augment


@dataclass(frozen=True)
class TrainJob:
    """Everything an engine needs to train, as plain data.

    A workflow's job has a private folder of `snapshots`, which belongs to this very job: what is
    found there is resumed. A Caffe user's job has none: snapshots go where the solver's
    snapshot_prefix says, and training starts afresh or from the solverstate `resume`.
    """

    solver: Path
    snapshots: Path | None = None
    # One caffemodel or several; later ones win where both hold a layer.
    weights: Path | tuple[Path, ...] | None = None
    # The layers to take from `weights`; None takes all that fit by name, as Caffe does.
    copy: tuple[str, ...] | None = None
    final: Path | None = None
    # None: Caffe's lines go to stderr.
    log: Path | None = None
    csv: Path | None = None
    # `best` wants an Accuracy layer in TEST and a place for the best weights.
    select: str = "last"
    patience: int = 0
    threads: int = 1
    # auto, cpu, cuda, or one GPU: cuda:1
    device: str = "auto"
    title: str = "train"
    iters_per_epoch: float = 0.0
    resume: Path | None = None
    # Which include and exclude rules hold, on top of the solver's train_state.
    level: int = 0
    stages: tuple[str, ...] = ()
    precision: str = "fp32"
    channels_last: str | bool = "auto"
    compile: bool = False
    deterministic: bool = False
    # What is done to training pictures beyond crop and mirror: torch alone.
    augment: Augment = NOTHING
    # Pictures a pass on one device: a divisor of its share of the batch, or "auto"; 0: all at once.
    micro_batch: int | str = 0
    # Processes on this machine, each with a device: a number, or "auto" for one a GPU.
    devices: int | str = 1
    # Machines of a SLURM job that train together, each with its `devices`.
    nodes: int = 1
    # stop (after a snapshot), snapshot (and go on) or none, as Caffe's flags of these names.
    sigint_effect: str = "stop"
    sighup_effect: str = "snapshot"
    # torch or caffe, for recaffe.engines.pick
    engine: str = "torch"


@dataclass(frozen=True)
class TrainResult:
    """What a training ended with. `iteration` is that of the weights in `final`.

    `val_accuracy` is nan for a net that isn't tested, or has no Accuracy layer.
    """

    iteration: int
    last_iteration: int
    val_accuracy: float
    reason: str
    images_per_second: float
    device: str


@dataclass(frozen=True)
class PredictJob:
    """Weights and deploy net to run over an LMDB, in the LMDB's order; or over pictures, without one."""

    deploy: Path
    weights: Path
    lmdb: Path = Path()
    crop_size: int = 0
    scale: float = 1.0
    mean_file: Path | None = None
    mean_values: tuple[float, ...] = ()
    batch_size: int = 64
    # 1: the centre crop; 10: the mean of scores of `views`.
    crops: int = 1
    threads: int = 1
    device: str = "auto"
    engine: str = "torch"


@dataclass(frozen=True)
class Predictions:
    """`scores` is float32 N×K, `labels` int64 N, `keys` the N records' keys, in LMDB order."""

    scores: np.ndarray
    labels: np.ndarray
    keys: list[str]


@dataclass(frozen=True)
class Output:
    """One value of a net's output blob; `weight` is its loss_weight, 0 for what is no loss."""

    name: str
    value: float
    weight: float = 0.0


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
    outputs: tuple[Output, ...] = ()
    # What Caffe says of the rate before it says the rate.
    status: str = ""


@dataclass(frozen=True)
class Test:
    """Means over all records of test net number `net` after `iteration` updates.

    `accuracy` is nan where the net has no top-1 Accuracy layer, `loss` where it has no loss.
    """

    __test__ = False  # not a test case, whatever its name says to pytest
    iteration: int
    outputs: tuple[Output, ...]
    accuracy: float
    loss: float
    net: int = 0
    # The weighted sum of all losses, where the solver says test_compute_loss.
    total: float = math.nan


@dataclass(frozen=True)
class Snapshot:
    """Files that hold the state after `iteration` updates."""

    iteration: int
    model: Path
    state: Path


Event = Step | Test | Snapshot
