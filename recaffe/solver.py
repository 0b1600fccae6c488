"""solver.prototxt: written from the config, whose epochs become Caffe's iterations; and checked."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from google.protobuf import text_format

from recaffe.errors import ConfigError
from recaffe.proto import caffe_pb2 as pb

TYPES = ("SGD", "Nesterov", "AdaGrad", "RMSProp", "AdaDelta", "Adam")
POLICIES = ("fixed", "step", "exp", "inv", "multistep", "poly", "sigmoid")
# Caffe refuses to train these with a momentum.
_NO_MOMENTUM = ("AdaGrad", "RMSProp")


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
        weight_decay=run["weight_decay"],
        regularization_type=run["regularization_type"],
        iter_size=run["iter_size"],
        max_iter=plan.max_iter,
        test_interval=plan.test_interval,
        display=max(1, min(20, round(plan.iters_per_epoch / 4))),
        average_loss=run["average_loss"] or max(1, min(20, round(plan.iters_per_epoch / 4))),
        snapshot=plan.snapshot,
        snapshot_prefix=snapshot_prefix,
        random_seed=run["seed"],
        solver_mode=pb.SolverParameter.GPU if run["device"] == "cuda" else pb.SolverParameter.CPU,
    )
    solver.test_iter.append(
        math.ceil(val_records / test_batch(val_records, run["test_batch_size"]))
    )
    if run["solver"] not in _NO_MOMENTUM:
        solver.momentum = run["momentum"]
    if run["solver"] == "Adam":
        solver.momentum2 = run["momentum2"]
    if run["solver"] == "RMSProp":
        solver.rms_decay = run["rms_decay"]
    if run["solver"] not in ("SGD", "Nesterov"):
        solver.delta = run["delta"]
    if run["clip_gradients"] >= 0:
        solver.clip_gradients = run["clip_gradients"]
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
    check(solver)
    return solver


def kind(solver: pb.SolverParameter) -> str:
    """The solver's type by name, also where the file says `solver_type: ADAM` as those of 2014 do.

    Raises `ConfigError` if it says both, or names none that Caffe has.
    """
    name = solver.type
    if solver.HasField("solver_type"):
        if solver.HasField("type"):
            raise ConfigError("The solver has both type and solver_type. Remove solver_type.")
        name = TYPES[solver.solver_type]
    if name not in TYPES:
        raise ConfigError(f"The solver's type is {name!r}; Caffe has {', '.join(TYPES)}.")
    return name


def check(solver: pb.SolverParameter) -> None:
    """Raises `ConfigError` that names the key and its value, for what Caffe refuses or can't mean.

    Source: the CHECKs of src/caffe/solver.cpp, sgd_solvers.hpp and sgd_solver.cpp, which come to
    light at the first update; here before any training.
    """
    name, policy = kind(solver), solver.lr_policy
    if policy not in POLICIES:
        raise ConfigError(f"lr_policy is {policy!r}; Caffe has {', '.join(POLICIES)}.")
    if solver.regularization_type not in ("L1", "L2"):
        raise ConfigError(
            f"regularization_type is {solver.regularization_type!r}; Caffe has L1 and L2."
        )
    if name in _NO_MOMENTUM and solver.momentum:
        raise ConfigError(
            f"momentum is {solver.momentum:g}, and {name} knows none. Remove momentum, or choose "
            "another solver."
        )
    wrong = [text for is_wrong, text in _rules(solver, name, policy) if is_wrong]
    if wrong:
        raise ConfigError(f"{wrong[0]}. Correct the solver.")


def _rules(s: pb.SolverParameter, name: str, policy: str) -> list[tuple[bool, str]]:
    moments = name in ("Adam", "AdaDelta")
    bad_step = next((v for v in s.stepvalue if v < 0), 0)
    return [
        (
            policy in ("step", "sigmoid") and s.stepsize < 1,
            f"stepsize is {s.stepsize}; lr_policy {policy} wants at least 1",
        ),
        (
            policy not in ("fixed", "poly") and s.gamma < 0,
            f"gamma is {s.gamma:g}; lr_policy {policy} wants at least 0",
        ),
        (bad_step < 0, f"stepvalue is {bad_step}; it is an iteration, at least 0"),
        (
            policy == "poly" and s.max_iter < 1,
            f"max_iter is {s.max_iter}; lr_policy poly wants at least 1",
        ),
        (s.iter_size < 1, f"iter_size is {s.iter_size}; it is at least 1"),
        (s.average_loss < 1, f"average_loss is {s.average_loss}; it is at least 1"),
        (
            name == "RMSProp" and not 0 <= s.rms_decay < 1,
            f"rms_decay is {s.rms_decay:g}; RMSProp wants it from 0 to below 1",
        ),
        (
            moments and not 0 <= s.momentum < 1,
            f"momentum is {s.momentum:g}; {name} wants it from 0 to below 1",
        ),
        (
            name == "Adam" and not 0 <= s.momentum2 < 1,
            f"momentum2 is {s.momentum2:g}; Adam wants it from 0 to below 1",
        ),
        (s.delta < 0, f"delta is {s.delta:g}; it is at least 0"),
    ]


def to_text(solver: pb.SolverParameter) -> str:
    """The solver as prototxt text."""
    return text_format.MessageToString(solver)


def weights(p: pb.SolverParameter) -> list[str]:
    """The files of weights that a solver names to start from, each field with commas between some."""
    return [name.strip() for field in p.weights for name in field.split(",") if name.strip()]
