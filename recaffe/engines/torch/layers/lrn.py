"""Local response normalisation, with a backward pass that keeps two blobs and no more."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from recaffe.engines.torch.layers.base import Context, wide
from recaffe.proto import caffe_pb2 as pb


def lrn(layer: pb.LayerParameter, x: list[Tensor], w: Sequence[Tensor], _: Context) -> list[Tensor]:
    """x (k + α/n Σx²)^-β over n channels, or x (1 + α/n² Σx²)^-β over an n×n window of one."""
    p, b = layer.lrn_param, wide(x[0])
    if p.norm_region == pb.LRNParameter.WITHIN_CHANNEL:
        mean = F.avg_pool2d(b * b, p.local_size, 1, p.local_size // 2)
        return [b * _power(1 + p.alpha * mean, p.beta)]
    half, factor = p.local_size // 2, p.alpha / p.local_size
    if torch.is_grad_enabled() and b.requires_grad:
        return [AcrossChannels.apply(b, half, factor, p.beta, p.k)]
    return [_denominator(b, half, factor, p.k, p.beta).mul_(b)]


class AcrossChannels(torch.autograd.Function):
    """y = x s^-β with s = k + factor Σ x² over the channels up to `half` away."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, half: int, factor: float, beta: float, k: float) -> Tensor:
        """Keeps x and s."""
        s = _window_sum(x * x, half).mul_(factor).add_(k)
        ctx.save_for_backward(x, s)
        ctx.half, ctx.factor, ctx.beta = half, factor, beta
        return _power(s, beta).mul_(x)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        """dx = dy s^-β - 2 factor β x Σ dy y / s."""
        x, s = ctx.saved_tensors
        scaled = _power(s, ctx.beta).mul_(grads[0])  # dy s^-β
        ratio = _window_sum((scaled * x).div_(s), ctx.half)
        scaled.addcmul_(ratio, x, value=-2 * ctx.factor * ctx.beta)
        return scaled, None, None, None, None


def _denominator(x: Tensor, half: int, factor: float, k: float, beta: float) -> Tensor:
    return _power(_window_sum(x * x, half).mul_(factor).add_(k), beta)


def _window_sum(values: Tensor, half: int) -> Tensor:
    """For each channel the sum of those up to `half` away.

    Sums of shifted slices: several times faster on CPUs than F.local_response_norm.
    """
    total = values.clone()
    for shift in range(1, min(half, values.shape[1] - 1) + 1):
        total[:, shift:] += values[:, :-shift]
        total[:, :-shift] += values[:, shift:]
    return total


def _power(s: Tensor, beta: float) -> Tensor:
    """s^-β. Every published net has β = 0.75, where two roots take a quarter of a power's time."""
    if abs(beta - 0.75) < 1e-7:
        root = s.rsqrt()
        return root * root.sqrt()
    return s.pow(-beta)
