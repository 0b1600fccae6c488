"""Caffe's learning-rate policies, in the float32 that Caffe computes them in.

Source: `SGDSolver::GetLearningRate` of BVLC Caffe 1.0.
"""

from __future__ import annotations

import numpy as np

from recaffe.errors import ConfigError
from recaffe.proto import caffe_pb2 as pb

# (iteration, current_step) that a run goes on from: both are 0 for one that starts afresh.
Start = tuple[int, int]


def learning_rate(p: pb.SolverParameter, iteration: int, start: Start = (0, 0)) -> float:
    """The rate of update number `iteration`, which is 0 for the first.

    The result is a float32 value: near the end of poly, float32 rounds 1 − iteration / max_iter
    visibly. Raises `ConfigError` for a policy that Caffe doesn't have.
    """
    with np.errstate(over="ignore"):  # an exponent out of range is inf or 0, as in C
        return float(np.float32(_rate(p, iteration, start)))


def _rate(p: pb.SolverParameter, iteration: int, start: Start) -> float | np.floating:
    one, base, i = np.float32(1), np.float32(p.base_lr), np.float32(iteration)
    gamma, power = np.float32(p.gamma), np.float32(p.power)
    match p.lr_policy:
        case "fixed":
            return base
        case "step" | "multistep":  # a power with a whole exponent is a double in C++
            return p.base_lr * np.float64(p.gamma) ** current_step(p, iteration, start)
        case "exp":
            return p.base_lr * np.float64(p.gamma) ** iteration
        case "inv":
            return base * (one + gamma * i) ** -power
        case "poly":
            return base * (one - i / np.float32(p.max_iter)) ** power
        case "sigmoid":
            return base * (one / (one + np.exp(-gamma * (i - np.float32(p.stepsize)))))
    raise ConfigError(f"lr_policy {p.lr_policy!r} is none of Caffe's.")


def current_step(p: pb.SolverParameter, iteration: int, start: Start = (0, 0)) -> int:
    """How many steps the rate of update `iteration` lies down, as Caffe counts them.

    multistep moves on by one step an update at most. So stepvalues that don't rise take effect one
    after the other, and a run resumed under other stepvalues than it was begun with goes on from
    the step that its solverstate names.
    """
    if p.lr_policy == "step":
        return iteration // p.stepsize
    if p.lr_policy != "multistep":
        return start[1]
    step, earliest = start[1], start[0]
    for value in p.stepvalue[step:]:
        reached = max(earliest, value)
        if reached > iteration:
            break
        step, earliest = step + 1, reached + 1
    return step
