"""Layers that normalise by mean and variance."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from recaffe.engines.torch.layers.base import Context, along, shape, wide
from recaffe.net.shapes.base import legacy
from recaffe.proto import caffe_pb2 as pb


def batch_norm(
    layer: pb.LayerParameter, x: list[Tensor], w: Sequence[Tensor], c: Context
) -> list[Tensor]:
    """(x - mean) / √(variance + eps) by channel: the batch's own statistics, or the kept ones.

    The kept ones are sums that decay; the third parameter says what to divide them by. As in Caffe
    they are updated whenever the batch's own are used, whatever the phase. A fourth and a fifth
    parameter are those of the Scale that follows, done in one go.
    """
    p, b = layer.batch_norm_param, wide(x[0])
    mean, var, factor = (v.detach() for v in w[:3])
    gamma, beta = (w[i] if len(w) > i else None for i in (3, 4))
    fixed = p.use_global_stats if p.HasField("use_global_stats") else not c.training
    if fixed:
        inverse = torch.where(factor == 0, 0, 1 / factor)
        return [F.batch_norm(b, mean * inverse, var * inverse, gamma, beta, eps=p.eps)]
    size = b.numel() // b.shape[1]
    if b.device.type == "cpu":
        out, own_mean, own_var = OwnStatistics.apply(b, p.eps, gamma, beta)
        own_var = own_var * (size / max(1, size - 1))
    else:
        own_mean, own_var = torch.zeros_like(mean), torch.zeros_like(var)
        # A momentum of 1 leaves just this batch's mean, and its variance over size - 1.
        out = torch.batch_norm(b, gamma, beta, own_mean, own_var, True, 1.0, p.eps, True)
    with torch.no_grad():
        factor.mul_(p.moving_average_fraction).add_(1)
        mean.mul_(p.moving_average_fraction).add_(own_mean)
        var.mul_(p.moving_average_fraction)
        if size > 1:
            var.add_(own_var)
    return [out]


class OwnStatistics(torch.autograd.Function):
    """y = gamma (x - mean) / √(variance + eps) + beta, mean and variance (over the size) by channel,
    on CPUs.

    PyTorch's own kernel sums channels-last blobs one value after the other, which in float32 costs
    two digits of a mean over 10⁵ values.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, eps: float, gamma: Tensor | None, beta: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Keeps x and a few values a channel."""
        dims = [0, *range(2, x.dim())]
        mean = x.mean(dims)
        centred = x - along(mean, x, 1)
        var = centred.mul_(centred).mean(dims)
        ctx.save_for_backward(x, gamma, mean, (var + eps).rsqrt_())
        ctx.eps = eps
        ctx.mark_non_differentiable(mean, var)
        return torch.batch_norm(x, gamma, beta, mean, var, False, 0.0, eps, False), mean, var

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        """gamma (dy - mean dy - y mean(y dy)) / √(variance + eps), Σ y dy and Σ dy, where y is
        before gamma and beta."""
        x, gamma, mean, inverse = ctx.saved_tensors
        wanted = [ctx.needs_input_grad[i] for i in (0, 2, 3)]
        dx, dgamma, dbeta = torch.ops.aten.native_batch_norm_backward(
            grads[0], x, gamma, None, None, mean, inverse, True, ctx.eps, wanted
        )
        return dx, None, dgamma if wanted[1] else None, dbeta if wanted[2] else None


def mvn(layer: pb.LayerParameter, x: list[Tensor], w: Sequence[Tensor], _: Context) -> list[Tensor]:
    """Each channel (or picture) less its mean, and by its deviation unless normalize_variance is
    off."""
    p = layer.mvn_param
    b = wide(x[0]).reshape(legacy(shape(x[0])))
    dims = (1, 2, 3) if p.across_channels else (2, 3)
    if not p.normalize_variance:
        return [b - b.mean(dims, keepdim=True)]
    return [MeanVariance.apply(b, dims, p.eps)]


class MeanVariance(torch.autograd.Function):
    """y = (x - mean) / (σ + eps), with Caffe's gradient, which takes eps as part of σ."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, dims: tuple[int, ...], eps: float) -> Tensor:
        """Keeps y and σ + eps."""
        y = x - x.mean(dims, keepdim=True)
        deviation = y.square().mean(dims, keepdim=True).sqrt_().add_(eps)
        y = y / deviation
        ctx.save_for_backward(y, deviation)
        ctx.dims = dims
        return y

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        """(dy - mean dy - y mean(y dy)) / (σ + eps)."""
        y, deviation = ctx.saved_tensors
        mean = grads[0].mean(ctx.dims, keepdim=True)
        slope = (y * grads[0]).mean(ctx.dims, keepdim=True)
        return (grads[0] - mean - y * slope) / deviation, None, None
