"""Layers that compute each value from one value."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from recaffe.engines.torch.layers.base import Context, Forward, along
from recaffe.proto import caffe_pb2 as pb


def relu(
    layer: pb.LayerParameter, x: list[Tensor], w: Sequence[Tensor], c: Context
) -> list[Tensor]:
    """max(x, 0) + slope min(x, 0)."""
    slope = layer.relu_param.negative_slope
    if slope:
        return [F.leaky_relu(x[0], slope, inplace=c.in_place and slope > 0)]
    return [F.relu(x[0], inplace=c.in_place)]


def prelu(
    layer: pb.LayerParameter, x: list[Tensor], w: Sequence[Tensor], _: Context
) -> list[Tensor]:
    """A ReLU whose slopes are learned."""
    return [F.prelu(x[0], w[0].reshape(-1))]


def elu(layer: pb.LayerParameter, x: list[Tensor], w: Sequence[Tensor], _: Context) -> list[Tensor]:
    """x above 0, α (e^x - 1) below."""
    return [F.elu(x[0], layer.elu_param.alpha)]


def dropout(
    layer: pb.LayerParameter, x: list[Tensor], w: Sequence[Tensor], c: Context
) -> list[Tensor]:
    """Some values become 0 in training, the others grow; in TEST nothing happens.

    The mask is drawn for the whole batch and cut, so that a batch in parts sees the same as one in
    whole. Its numbers lie as the blob does in memory: pictures are outermost in both layouts.
    """
    ratio = layer.dropout_param.dropout_ratio
    if not c.training or ratio == 0:
        return [x[0]]
    b = x[0]
    layout = torch.contiguous_format
    if b.dim() == 4 and b.is_contiguous(memory_format=torch.channels_last):
        layout = torch.channels_last
    mask = torch.empty(
        (b.shape[0] * c.world, *b.shape[1:]), dtype=b.dtype, device=b.device, memory_format=layout
    )
    if b.device.type == "cpu":
        _draw(mask, 1 - ratio)
    else:
        mask.bernoulli_(1 - ratio)
    own = mask[c.rank * b.shape[0] : (c.rank + 1) * b.shape[0]]
    return [b * own.mul_(1 / (1 - ratio))]


def _draw(mask: Tensor, share: float) -> None:
    """`mask.bernoulli_(share)` for CPUs, on which that draws one number after the other on one core.

    The generator's 64 bits serve four values here, each compared in 16: in a fifth of the time, and of
    a probability that is at most 1/131,072 off.
    """
    count = mask.numel()
    drawn = torch.empty(-(-count // 4), dtype=torch.int64).random_(-(2**63), None)
    below = drawn.view(torch.int16)[:count] < round(share * 2**16) - 2**15
    # Bytes are copied in a quarter of the time of bools.
    mask.as_strided((count,), (1,)).copy_(below.view(torch.uint8))


def power(
    layer: pb.LayerParameter, x: list[Tensor], w: Sequence[Tensor], _: Context
) -> list[Tensor]:
    """(shift + scale x)^power."""
    p = layer.power_param
    if p.power * p.scale == 0:
        value = 1.0 if p.power == 0 else p.shift**p.power
        # Whatever x is, inf and nan included; and its gradient is 0.
        return [x[0].masked_fill(torch.ones_like(x[0], dtype=torch.bool), value)]
    out = x[0] if p.scale == 1 else x[0] * p.scale
    out = out if p.shift == 0 else out + p.shift
    if p.power == 1:
        return [out if out is not x[0] else out.clone()]
    return [out.square() if p.power == 2 else out**p.power]


def exp(layer: pb.LayerParameter, x: list[Tensor], w: Sequence[Tensor], _: Context) -> list[Tensor]:
    """base^(shift + scale x); a base of -1 stands for e."""
    p = layer.exp_param
    factor = 1.0 if p.base == -1 else math.log(p.base)
    out = torch.exp(x[0] * (factor * p.scale))
    return [out if p.shift == 0 else out * math.exp(factor * p.shift)]


def log(layer: pb.LayerParameter, x: list[Tensor], w: Sequence[Tensor], _: Context) -> list[Tensor]:
    """Logarithm of shift + scale x; a base of -1 stands for e."""
    p = layer.log_param
    out = torch.log(x[0] * p.scale + p.shift)
    return [out if p.base == -1 else out / math.log(p.base)]


def bnll(
    layer: pb.LayerParameter, x: list[Tensor], w: Sequence[Tensor], _: Context
) -> list[Tensor]:
    """log(1 + e^x)."""
    return [F.softplus(x[0], threshold=50)]


def threshold(
    layer: pb.LayerParameter, x: list[Tensor], w: Sequence[Tensor], _: Context
) -> list[Tensor]:
    """1 above the threshold, else 0."""
    return [(x[0] > layer.threshold_param.threshold).to(x[0].dtype)]


def clip(
    layer: pb.LayerParameter, x: list[Tensor], w: Sequence[Tensor], _: Context
) -> list[Tensor]:
    """Values between min and max."""
    return [x[0].clamp(layer.clip_param.min, layer.clip_param.max)]


def swish(
    layer: pb.LayerParameter, x: list[Tensor], w: Sequence[Tensor], _: Context
) -> list[Tensor]:
    """x σ(βx)."""
    beta = layer.swish_param.beta
    return [F.silu(x[0]) if beta == 1 else x[0] * torch.sigmoid(beta * x[0])]


def scale(
    layer: pb.LayerParameter, x: list[Tensor], w: Sequence[Tensor], _: Context
) -> list[Tensor]:
    """The first bottom times the second, or times a parameter; then a bias."""
    p, blobs = layer.scale_param, list(w)
    factor = along(x[1] if len(x) > 1 else blobs.pop(0), x[0], p.axis)
    if not p.bias_term:
        return [x[0] * factor]
    return [torch.addcmul(along(blobs[0], x[0], p.axis), x[0], factor)]


def bias(
    layer: pb.LayerParameter, x: list[Tensor], w: Sequence[Tensor], _: Context
) -> list[Tensor]:
    """The first bottom plus the second, or plus a parameter."""
    return [x[0] + along(x[1] if len(x) > 1 else w[0], x[0], layer.bias_param.axis)]


def one(function: Callable[[Tensor], Tensor]) -> Forward:
    """A layer without settings."""
    return lambda layer, x, w, c: [function(x[0])]
