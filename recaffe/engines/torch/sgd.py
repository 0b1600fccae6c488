"""Caffe's SGD and its learning-rate policies.

Source: src/caffe/solvers/sgd_solver.cpp of BVLC Caffe 1.0. The rate is inside the momentum:
v = momentum · v + rate · lr_mult · (grad + weight_decay · decay_mult · w);  w -= v.
"""

from __future__ import annotations

import math
from collections import defaultdict

import torch

from recaffe.engines.torch.net import Net
from recaffe.errors import ConfigError
from recaffe.proto import caffe_pb2 as pb


def learning_rate(p: pb.SolverParameter, iteration: int) -> float:
    """The rate of the update after iteration number `iteration` (0 for the first).

    Raises `ConfigError` for a policy that Caffe doesn't have, or one without its parameters.
    """
    if p.lr_policy == "fixed":
        return p.base_lr
    if p.lr_policy == "step":
        if p.stepsize < 1:
            raise ConfigError("lr_policy step wants a stepsize of at least 1 in the solver.")
        return p.base_lr * p.gamma ** (iteration // p.stepsize)
    if p.lr_policy == "exp":
        return p.base_lr * p.gamma**iteration
    if p.lr_policy == "inv":
        return p.base_lr * (1 + p.gamma * iteration) ** -p.power
    if p.lr_policy == "multistep":
        return p.base_lr * p.gamma ** current_step(p, iteration)
    if p.lr_policy == "poly":
        return p.base_lr * (1 - iteration / p.max_iter) ** p.power
    if p.lr_policy == "sigmoid":
        return p.base_lr / (1 + math.exp(-p.gamma * (iteration - p.stepsize)))
    raise ConfigError(f"lr_policy {p.lr_policy!r} is none of Caffe's.")


def current_step(p: pb.SolverParameter, iteration: int) -> int:
    """How many steps lie behind, as SolverState.current_step counts them."""
    if p.lr_policy == "step":
        return iteration // max(1, p.stepsize)
    if p.lr_policy == "multistep":
        return sum(iteration >= s for s in p.stepvalue)
    return 0


class SGD:
    """Momentum SGD over a net's learnable parameters; `history` is in Caffe's order."""

    def __init__(self, net: Net, p: pb.SolverParameter) -> None:
        if p.type not in ("SGD", ""):
            raise ConfigError(f"The torch engine has no solver {p.type!r} yet; it has SGD.")
        if p.regularization_type not in ("L1", "L2"):
            raise ConfigError(
                f"regularization_type {p.regularization_type!r} is neither L1 nor L2."
            )
        self.p = p
        self.params = [param for _, _, param, _ in net.learnable()]
        self.history = [torch.zeros_like(param) for param in self.params]
        # Parameters with the same multipliers are updated together: fewer, longer operations.
        self.groups: dict[tuple[float, float], list[int]] = defaultdict(list)
        for i, (_, _, param, spec) in enumerate(net.learnable()):
            if param.requires_grad:
                self.groups[spec.lr_mult, spec.decay_mult].append(i)

    @torch.no_grad()
    def step(self, rate: float) -> None:
        """One update from the gradients, which are summed over iter_size and left as None."""
        p = self.p
        grads: dict[int, torch.Tensor] = {
            i: g for i, param in enumerate(self.params) if (g := param.grad) is not None
        }
        live = {k: [i for i in g if i in grads] for k, g in self.groups.items()}
        if p.clip_gradients >= 0:
            norm = math.sqrt(sum(float(g.square().sum()) for g in grads.values()))
            if norm > p.clip_gradients:
                torch._foreach_mul_(list(grads.values()), p.clip_gradients / norm)
        for (lr_mult, decay_mult), group in live.items():
            if not group:
                continue
            ws: list[torch.Tensor] = [self.params[i] for i in group]
            vs = [self.history[i] for i in group]
            gs = [grads[i] for i in group]
            if p.iter_size > 1:
                torch._foreach_mul_(gs, 1.0 / p.iter_size)
            decay = p.weight_decay * decay_mult
            if decay and p.regularization_type == "L2":
                torch._foreach_add_(gs, ws, alpha=decay)
            elif decay:
                torch._foreach_add_(gs, [w.sign() for w in ws], alpha=decay)
            torch._foreach_mul_(vs, p.momentum)
            torch._foreach_add_(vs, gs, alpha=rate * lr_mult)
            torch._foreach_sub_(ws, vs)
        for param in self.params:
            param.grad = None
