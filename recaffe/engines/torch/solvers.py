"""Caffe's six solvers: what becomes of the gradients of an iteration.

Source: src/caffe/solvers/*.cpp of BVLC Caffe 1.0. The order is Caffe's: clip the summed gradients,
divide them by iter_size, add the penalty's gradient, update the history, subtract the update. The
rate is *inside* SGD's and Nesterov's momentum, unlike PyTorch's own optimizers.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
import torch
from torch import Tensor, nn

from recaffe import real_caffe
from recaffe.engines.torch.blocks import blocks
from recaffe.engines.torch.net import Net
from recaffe.engines.torch.rates import Start, current_step, learning_rate
from recaffe.errors import ConfigError, NetError
from recaffe.proto import caffe_pb2 as pb
from recaffe.solver import check, kind


@dataclass(frozen=True)
class Group:
    """Parameters, by index, with the same multipliers, which are updated together."""

    lr_mult: float
    decay_mult: float
    members: tuple[int, ...]


@dataclass(frozen=True)
class Update:
    """What an update rule works on, a block of a group; `history` has one list for each entry.

    `grads` may be overwritten.
    """

    weights: list[Tensor]
    grads: list[Tensor]
    history: list[list[Tensor]]
    rate: float
    iteration: int


class Solver:
    """The update of a net's learnable parameters. `history` is in Caffe's order: the first entry of
    every parameter, then (AdaDelta, Adam) the second of every one; each has its parameter's shape.

    Raises `ConfigError` for settings that Caffe refuses and `NetError` for layers that share a
    parameter and disagree about its multipliers.
    """

    entries: ClassVar[int] = 1  # of history, for each parameter
    # Whether the penalty on a frozen parameter (lr_mult 0) reaches its history: it does where the
    # rate isn't a part of the history.
    sees_frozen: ClassVar[bool] = True

    def __init__(self, net: Net, p: pb.SolverParameter) -> None:
        check(p)
        if p.snapshot_diff:
            raise ConfigError(
                "snapshot_diff: true is not supported by the torch engine, which keeps no gradients "
                f"after an update. Remove it from the solver. {real_caffe.can('write them')}"
            )
        self.p = p
        self.params, self._multipliers = _learnable(net)
        self.history = [torch.zeros_like(w) for _ in range(self.entries) for w in self.params]
        self.start: Start = (0, 0)
        self._groups = self._grouped()

    def rate(self, iteration: int) -> float:
        """The learning rate of update number `iteration`, whatever the run was resumed from."""
        return learning_rate(self.p, iteration, self.start)

    def current_step(self, iteration: int) -> int:
        """SolverState.current_step after `iteration` updates: that of the last one's rate."""
        if iteration <= self.start[0]:
            return self.start[1]
        return current_step(self.p, iteration - 1, self.start)

    def status(self, iteration: int) -> str:
        """What Caffe says before the update in which multistep takes a step; else nothing."""
        step = self.current_step(iteration + 1)
        if self.p.lr_policy != "multistep" or step == self.current_step(iteration):
            return ""
        return f"MultiStep Status: Iteration {iteration}, step = {step}"

    @torch.no_grad()
    def restore(self, history: Sequence[Tensor], start: Start) -> None:
        """Go on from (iteration, current_step) with `history`, which must fit in number and shape."""
        for target, source in zip(self.history, history, strict=True):
            target.copy_(source)
        self.start = start
        self._groups = self._grouped()

    @torch.no_grad()
    def step(self, rate: float, iteration: int) -> None:
        """Update number `iteration` from the gradients, which are summed over iter_size.

        All gradients are None afterwards. A parameter that has none counts as one with a gradient
        of 0: the penalty moves it all the same.
        """
        self._clip([g for w in self.params if (g := w.grad) is not None])
        for group in self._groups:
            weights: list[Tensor] = [self.params[i] for i in group.members]
            grads = [torch.zeros_like(w) if w.grad is None else w.grad for w in weights]
            history = [
                [self.history[e * len(self.params) + i] for i in group.members]
                for e in range(self.entries)
            ]
            local_rate = _float32(rate * group.lr_mult)
            for block in blocks([weights, grads, *history]):
                self._regularize(block[0], block[1], group.decay_mult)
                self._update(Update(block[0], block[1], block[2:], local_rate, iteration))
        for w in self.params:
            w.grad = None

    def _update(self, u: Update) -> None:
        raise NotImplementedError

    def _clip(self, grads: list[Tensor]) -> None:
        """Scale all gradients so that their L2 norm together is clip_gradients at most."""
        limit = self.p.clip_gradients
        if limit < 0 or not grads:
            return
        norm = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(grads)))
        # Kept on the device: asking it which case holds would wait for the backward pass.
        torch._foreach_mul_(grads, torch.where(norm > limit, limit / norm, 1.0))

    def _regularize(self, weights: list[Tensor], grads: list[Tensor], decay_mult: float) -> None:
        if self.p.iter_size > 1:
            torch._foreach_mul_(grads, 1.0 / self.p.iter_size)
        decay = _float32(self.p.weight_decay * decay_mult)
        if decay:
            penalty = (
                weights if self.p.regularization_type == "L2" else torch._foreach_sign(weights)
            )
            torch._foreach_add_(grads, penalty, alpha=decay)

    def _grouped(self) -> list[Group]:
        groups: dict[tuple[float, float], list[int]] = defaultdict(list)
        for i, multipliers in enumerate(self._multipliers):
            if not self._idle(i):
                groups[multipliers].append(i)
        return [Group(*key, tuple(members)) for key, members in groups.items()]

    def _idle(self, i: int) -> bool:
        """Whether an update changes neither the parameter nor its history."""
        lr_mult, decay_mult = self._multipliers[i]
        if lr_mult or self.params[i].requires_grad:
            return False
        if self.sees_frozen and self.p.weight_decay * decay_mult:
            return False
        return not any(h.any() for h in self.history[i :: len(self.params)])


class SGD(Solver):
    """v = momentum · v + rate · g;  w -= v."""

    sees_frozen = False

    def _update(self, u: Update) -> None:
        (v,) = u.history
        torch._foreach_mul_(v, self.p.momentum)
        torch._foreach_add_(v, u.grads, alpha=u.rate)
        torch._foreach_sub_(u.weights, v)


class Nesterov(Solver):
    """v' = momentum · v + rate · g;  w -= (1 + momentum) · v' - momentum · v."""

    sees_frozen = False

    def _update(self, u: Update) -> None:
        (v,) = u.history
        change = torch._foreach_mul(v, -self.p.momentum)
        torch._foreach_mul_(v, self.p.momentum)
        torch._foreach_add_(v, u.grads, alpha=u.rate)
        torch._foreach_add_(change, v, alpha=1 + self.p.momentum)
        torch._foreach_sub_(u.weights, change)


class AdaGrad(Solver):
    """h += g²;  w -= rate · g / (√h + delta)."""

    def _update(self, u: Update) -> None:
        (h,) = u.history
        torch._foreach_addcmul_(h, u.grads, u.grads)
        _step_by_root(u, u.grads, h, self.p.delta, u.rate)


class RMSProp(Solver):
    """h = rms_decay · h + (1 - rms_decay) · g²;  w -= rate · g / (√h + delta)."""

    def _update(self, u: Update) -> None:
        (h,) = u.history
        _average_in(h, u.grads, self.p.rms_decay)
        _step_by_root(u, u.grads, h, self.p.delta, u.rate)


class AdaDelta(Solver):
    """h = momentum · h + (1 - momentum) · g²;  d = g · √((delta + k) / (delta + h));

    k = momentum · k + (1 - momentum) · d²;  w -= rate · d.
    """

    entries = 2

    def _update(self, u: Update) -> None:
        h, k = u.history
        _average_in(h, u.grads, self.p.momentum)
        ratio = torch._foreach_add(k, self.p.delta)
        torch._foreach_div_(ratio, torch._foreach_add(h, self.p.delta))
        torch._foreach_sqrt_(ratio)
        torch._foreach_mul_(u.grads, ratio)
        _average_in(k, u.grads, self.p.momentum)
        torch._foreach_add_(u.weights, u.grads, alpha=-u.rate)


class Adam(Solver):
    """m = momentum · m + (1 - momentum) · g;  v = momentum2 · v + (1 - momentum2) · g²;

    w -= rate · √(1 - momentum2ᵗ) / (1 - momentumᵗ) · m / (√v + delta), t = iteration + 1.
    """

    entries = 2

    def _update(self, u: Update) -> None:
        m, v = u.history
        beta1, beta2, t = self.p.momentum, self.p.momentum2, u.iteration + 1
        torch._foreach_mul_(m, beta1)
        torch._foreach_add_(m, u.grads, alpha=1 - beta1)
        _average_in(v, u.grads, beta2)
        correction = _float32(math.sqrt(1 - beta2**t) / (1 - beta1**t))
        _step_by_root(u, m, v, self.p.delta, _float32(u.rate * correction))


SOLVERS: dict[str, type[Solver]] = {
    "SGD": SGD,
    "Nesterov": Nesterov,
    "AdaGrad": AdaGrad,
    "RMSProp": RMSProp,
    "AdaDelta": AdaDelta,
    "Adam": Adam,
}


def make_solver(net: Net, p: pb.SolverParameter) -> Solver:
    """The solver that `p` names, over the net's parameters on the device where they are."""
    return SOLVERS[kind(p)](net, p)


def _average_in(h: list[Tensor], x: list[Tensor], kept: float) -> None:
    """h = kept · h + (1 - kept) · x²."""
    torch._foreach_mul_(h, kept)
    torch._foreach_addcmul_(h, x, x, value=1 - kept)


def _step_by_root(u: Update, x: list[Tensor], h: list[Tensor], delta: float, rate: float) -> None:
    """w -= rate · x / (√h + delta)."""
    root = torch._foreach_sqrt(h)
    torch._foreach_add_(root, delta)
    torch._foreach_addcdiv_(u.weights, x, root, value=-rate)


def _float32(value: float) -> float:
    """As Caffe holds it."""
    return float(np.float32(value))


def _learnable(net: Net) -> tuple[list[nn.Parameter], list[tuple[float, float]]]:
    """The parameters in Caffe's order, each once, with (lr_mult, decay_mult).

    Of the layers that share a parameter, the first that states a multiplier decides it for all.
    Source: `Net::AppendParam`.
    """
    params = [param for _, _, param, _ in net.learnable()]
    uses: dict[int, list[tuple[str, pb.ParamSpec]]] = {id(param): [] for param in params}
    for layer, blobs in net.blobs.items():
        for blob, spec in zip(blobs, net.specs[layer], strict=True):
            uses[id(blob)].append((layer, spec))
    multipliers = []
    for param in params:
        lr_mult, decay_mult = (_agreed(uses[id(param)], f) for f in ("lr_mult", "decay_mult"))
        # BatchNorm's statistics have a rate of 0, whatever their layer says.
        multipliers.append((lr_mult if param.requires_grad else 0.0, decay_mult))
    return params, multipliers


def _agreed(uses: list[tuple[str, pb.ParamSpec]], field: Literal["lr_mult", "decay_mult"]) -> float:
    said = [(layer, spec, getattr(spec, field)) for layer, spec in uses if spec.HasField(field)]
    for layer, spec, value in said[1:]:
        if value != said[0][2]:
            raise NetError(
                f"Layers {said[0][0]!r} and {layer!r} share the parameter {spec.name!r}, but give it "
                f"{field} {said[0][2]:g} and {value:g}. Make them equal, or leave one out."
            )
    return float(said[0][2] if said else getattr(uses[0][1], field))
