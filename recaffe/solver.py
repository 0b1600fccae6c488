"""solver.prototxt from the config: schedules in epochs become Caffe's iterations."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from google.protobuf import text_format

from recaffe.errors import ConfigError
from recaffe.proto import caffe_pb2 as pb


@dataclass(frozen=True)
class Schedule:
    """Everything in iterations. An epoch is `iters_per_epoch` (not always whole)."""

    iters_per_epoch: float
    max_iter: int
    stepsize: int
    stepvalues: tuple[int, ...]
    test_interval: int
    snapshot: int


def test_batch(records: int, most: int) -> int:
    """The batch from `most`/2 to `most` whose whole batches overshoot the records least.

    Caffe's test accuracy is exact only where batch × test_iter is the number of records.
    """
    most = min(most, records)
    sizes = range(most, max(1, most // 2) - 1, -1)
    return min(sizes, key=lambda b: (math.ceil(records / b) * b - records, -b))


def schedule(run: dict[str, Any], train_records: int) -> Schedule:
    """Iterations of a run on `train_records` pictures; `run` is a row of the config's `runs`."""
    per_epoch = train_records / (run["batch_size"] * run["iter_size"])
    # An interval shorter than an iteration is an iteration.
    iters = lambda epochs: max(1, round(epochs * per_epoch))  # noqa: E731 - local shorthand
    max_iter = run["max_iter"] or iters(run["epochs"])
    return Schedule(
        per_epoch,
        max_iter,
        iters(run["step_epochs"]) if run["step_epochs"] else max(1, round(0.4 * max_iter)),
        tuple(iters(e) for e in run["multistep_epochs"]),
        min(iters(run["test_interval_epochs"]), max_iter),
        min(iters(run["snapshot_epochs"]), max_iter),
    )


def build(
    run: dict[str, Any], net: str, snapshot_prefix: str, train_records: int, val_records: int
) -> pb.SolverParameter:
    """The SolverParameter of one run.

    Raises `ConfigError` for a multistep policy without steps or steps that don't rise.
    """
    plan = schedule(run, train_records)
    policy = run["lr_policy"]
    solver = pb.SolverParameter(
        net=net,
        type=run["solver"],
        base_lr=run["base_lr"],
        lr_policy=policy,
        momentum=run["momentum"],
        weight_decay=run["weight_decay"],
        iter_size=run["iter_size"],
        max_iter=plan.max_iter,
        test_interval=plan.test_interval,
        display=max(1, min(20, round(plan.iters_per_epoch / 4))),
        average_loss=max(1, min(20, round(plan.iters_per_epoch / 4))),
        snapshot=plan.snapshot,
        snapshot_prefix=snapshot_prefix,
        random_seed=run["seed"],
        solver_mode=pb.SolverParameter.GPU if run["device"] == "cuda" else pb.SolverParameter.CPU,
    )
    solver.test_iter.append(
        math.ceil(val_records / test_batch(val_records, run["test_batch_size"]))
    )
    if policy in ("step", "exp", "inv", "multistep", "sigmoid"):
        solver.gamma = run["gamma"]
    if policy in ("inv", "poly"):
        solver.power = run["power"]
    if policy in ("step", "sigmoid"):
        solver.stepsize = plan.stepsize
    if policy == "multistep":
        values = plan.stepvalues
        if not values or list(values) != sorted(set(values)):
            raise ConfigError(
                f"multistep_epochs is {run['multistep_epochs']}; multistep wants rising epochs."
            )
        solver.stepvalue.extend(values)
    return solver


def to_text(solver: pb.SolverParameter) -> str:
    """The solver as prototxt text."""
    return text_format.MessageToString(solver)
