"""What each layer type computes, with Caffe's numerics; gradients come from autograd.

A layer is a function of its LayerParameter, its bottoms and its parameters. Source: the
`Forward_cpu` of each layer in BVLC Caffe 1.0.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from recaffe.net import shapes
from recaffe.proto import caffe_pb2 as pb

FLT_MIN = 1.17549435e-38


@dataclass
class Context:
    """What a forward pass knows besides its blobs. `in_place`: the bottom may be overwritten."""

    training: bool
    in_place: bool = False


Forward = Callable[[pb.LayerParameter, list[Tensor], Sequence[Tensor], Context], list[Tensor]]


def _convolution(
    layer: pb.LayerParameter, x: list[Tensor], w: Sequence[Tensor], _: Context
) -> list[Tensor]:
    p = layer.convolution_param
    win = shapes.conv_window(p)
    bias = w[1] if p.bias_term else None
    return [F.conv2d(b, w[0], bias, win.stride, win.pad, win.dilation, p.group) for b in x]


def _inner_product(
    layer: pb.LayerParameter, x: list[Tensor], w: Sequence[Tensor], _: Context
) -> list[Tensor]:
    p = layer.inner_product_param
    axis = shapes.axis_of(p.axis, tuple(x[0].shape))
    weight = w[0].t() if p.transpose else w[0]
    return [F.linear(x[0].flatten(axis), weight, w[1] if p.bias_term else None)]


def _pooling(
    layer: pb.LayerParameter, x: list[Tensor], w: Sequence[Tensor], _: Context
) -> list[Tensor]:
    p = layer.pooling_param
    b = x[0]
    win = shapes.pool_window(p, tuple(b.shape))
    ceil = p.round_mode == pb.PoolingParameter.CEIL
    if p.pool == pb.PoolingParameter.AVE:
        if p.global_pooling:
            return [b.mean((2, 3), keepdim=True)]
        # PyTorch's divisor with padding counted is Caffe's: the window clipped to the padded image.
        return [F.avg_pool2d(b, win.kernel, win.stride, win.pad, ceil, count_include_pad=True)]
    if p.global_pooling:
        return [b.amax((2, 3), keepdim=True)]
    return [F.max_pool2d(b, win.kernel, win.stride, win.pad, 1, ceil)]


def _lrn(
    layer: pb.LayerParameter, x: list[Tensor], w: Sequence[Tensor], _: Context
) -> list[Tensor]:
    p, b = layer.lrn_param, x[0]
    n, half = p.local_size, p.local_size // 2
    square = b * b
    if p.norm_region == pb.LRNParameter.ACROSS_CHANNELS:
        # Sums of shifted channel slices: several times faster on CPUs than F.local_response_norm.
        total = square.clone()
        for shift in range(1, half + 1):
            total[:, shift:] += square[:, :-shift]
            total[:, :-shift] += square[:, shift:]
        return [b * (p.k + p.alpha / n * total) ** -p.beta]
    total = F.avg_pool2d(square, n, 1, half, count_include_pad=True)  # alpha is divided by n²
    return [b * (1 + p.alpha * total) ** -p.beta]


def _relu(
    layer: pb.LayerParameter, x: list[Tensor], w: Sequence[Tensor], c: Context
) -> list[Tensor]:
    slope = layer.relu_param.negative_slope
    if slope:
        return [F.leaky_relu(x[0], slope)]
    return [F.relu(x[0], inplace=c.in_place)]


def _dropout(
    layer: pb.LayerParameter, x: list[Tensor], w: Sequence[Tensor], c: Context
) -> list[Tensor]:
    return [F.dropout(x[0], layer.dropout_param.dropout_ratio, c.training)]


def _concat(
    layer: pb.LayerParameter, x: list[Tensor], w: Sequence[Tensor], _: Context
) -> list[Tensor]:
    p = layer.concat_param
    return [torch.cat(x, p.concat_dim if p.HasField("concat_dim") else p.axis)]


def _eltwise(
    layer: pb.LayerParameter, x: list[Tensor], w: Sequence[Tensor], _: Context
) -> list[Tensor]:
    p = layer.eltwise_param
    out = x[0]
    if p.operation == pb.EltwiseParameter.SUM:
        coeff = list(p.coeff) or [1.0] * len(x)
        out = x[0] if coeff[0] == 1 else x[0] * coeff[0]
        for b, k in zip(x[1:], coeff[1:], strict=True):
            out = out.add(b, alpha=k)
        return [out]
    for b in x[1:]:
        out = out * b if p.operation == pb.EltwiseParameter.PROD else torch.maximum(out, b)
    return [out]


def _batch_norm(
    layer: pb.LayerParameter, x: list[Tensor], w: Sequence[Tensor], c: Context
) -> list[Tensor]:
    p, b = layer.batch_norm_param, x[0]
    mean, var, factor = w
    fixed = p.use_global_stats if p.HasField("use_global_stats") else not c.training
    if fixed:
        scale = 0.0 if factor.item() == 0 else 1.0 / factor.item()
        return [F.batch_norm(b, mean * scale, var * scale, eps=p.eps)]
    dims = [d for d in range(b.dim()) if d != 1]
    if c.training:
        with torch.no_grad():
            size = b.numel() // b.shape[1]
            unbiased = size / (size - 1) if size > 1 else 1.0
            fraction = p.moving_average_fraction
            v, m = torch.var_mean(b, dims, correction=0)
            factor.mul_(fraction).add_(1)
            mean.mul_(fraction).add_(m)
            var.mul_(fraction).add_(v, alpha=unbiased)
    return [F.batch_norm(b, None, None, training=True, eps=p.eps)]


def _scale(
    layer: pb.LayerParameter, x: list[Tensor], w: Sequence[Tensor], _: Context
) -> list[Tensor]:
    p = layer.scale_param
    blobs = list(w)
    factor = x[1] if len(x) > 1 else blobs.pop(0)
    out = x[0] * _along(factor, x[0], p.axis)
    return [out + _along(blobs[0], x[0], p.axis)] if p.bias_term else [out]


def _bias(
    layer: pb.LayerParameter, x: list[Tensor], w: Sequence[Tensor], _: Context
) -> list[Tensor]:
    return [x[0] + _along(x[1] if len(x) > 1 else w[0], x[0], layer.bias_param.axis)]


def _along(values: Tensor, like: Tensor, axis: int) -> Tensor:
    """`values` shaped so that its first axis lies on `axis` of `like`."""
    axis = axis % like.dim()
    return values.reshape(
        [1] * axis + list(values.shape) + [1] * (like.dim() - axis - values.dim())
    )


def _prelu(
    layer: pb.LayerParameter, x: list[Tensor], w: Sequence[Tensor], _: Context
) -> list[Tensor]:
    return [F.prelu(x[0], w[0].reshape(-1))]


def _flatten(
    layer: pb.LayerParameter, x: list[Tensor], w: Sequence[Tensor], _: Context
) -> list[Tensor]:
    return [x[0].flatten(layer.flatten_param.axis, layer.flatten_param.end_axis)]


def _to_shape(
    layer: pb.LayerParameter, x: list[Tensor], w: Sequence[Tensor], _: Context
) -> list[Tensor]:
    return [x[0].reshape(shapes.tops_of(layer, [tuple(x[0].shape)])[0])]


def _slice(
    layer: pb.LayerParameter, x: list[Tensor], w: Sequence[Tensor], _: Context
) -> list[Tensor]:
    p = layer.slice_param
    axis = p.slice_dim if p.HasField("slice_dim") else p.axis
    tops = shapes.tops_of(layer, [tuple(x[0].shape)])
    return list(x[0].split([t[axis] for t in tops], axis))


def _softmax(
    layer: pb.LayerParameter, x: list[Tensor], w: Sequence[Tensor], _: Context
) -> list[Tensor]:
    return [F.softmax(x[0], layer.softmax_param.axis)]


def _softmax_loss(
    layer: pb.LayerParameter, x: list[Tensor], w: Sequence[Tensor], _: Context
) -> list[Tensor]:
    p, axis = layer.loss_param, layer.softmax_param.axis
    scores = x[0].movedim(axis, 1) if axis != 1 else x[0]
    labels = x[1].reshape(scores.shape[0], *scores.shape[2:]).long()
    log_prob = F.log_softmax(scores, 1).clamp_min(
        math.log(FLT_MIN)
    )  # where Caffe's 87.3365 is from
    ignore = p.ignore_label if p.HasField("ignore_label") else -100
    total = F.nll_loss(log_prob, labels, ignore_index=ignore, reduction="sum")
    out = total / _normalizer(p, scores, labels, ignore)
    return [out, F.softmax(x[0], axis)][: max(1, len(layer.top))]


def _normalizer(p: pb.LossParameter, scores: Tensor, labels: Tensor, ignore: int) -> float:
    mode = p.normalization
    if not p.HasField("normalization") and p.HasField("normalize"):
        mode = pb.LossParameter.VALID if p.normalize else pb.LossParameter.BATCH_SIZE
    if mode == pb.LossParameter.VALID:
        return max(1.0, float((labels != ignore).sum()))
    if mode == pb.LossParameter.FULL:
        return float(labels.numel())
    return float(scores.shape[0]) if mode == pb.LossParameter.BATCH_SIZE else 1.0


def _accuracy(
    layer: pb.LayerParameter, x: list[Tensor], w: Sequence[Tensor], _: Context
) -> list[Tensor]:
    p = layer.accuracy_param
    scores = x[0].movedim(p.axis, 1) if p.axis != 1 else x[0]
    labels = x[1].reshape(scores.shape[0], *scores.shape[2:]).long()
    valid = (
        labels != p.ignore_label
        if p.HasField("ignore_label")
        else torch.ones_like(labels, dtype=torch.bool)
    )
    safe = labels.where(valid, 0)
    own = scores.gather(1, safe[:, None])
    # Caffe counts the classes that score at least as well; a tie is a miss only beyond top_k.
    better = (scores >= own).sum(1) - 1
    hit = (better < p.top_k) & valid
    total = hit.sum().float() / valid.sum().clamp_min(1)
    if len(layer.top) < 2:
        return [total]
    classes = scores.shape[1]
    seen = torch.bincount(safe[valid], minlength=classes).float()
    right = torch.bincount(safe[hit], minlength=classes).float()
    return [total, right / seen.clamp_min(1)]


def _power(
    layer: pb.LayerParameter, x: list[Tensor], w: Sequence[Tensor], _: Context
) -> list[Tensor]:
    p = layer.power_param
    out = p.shift + p.scale * x[0]
    return [out if p.power == 1 else out**p.power]


def _exp(
    layer: pb.LayerParameter, x: list[Tensor], w: Sequence[Tensor], _: Context
) -> list[Tensor]:
    p = layer.exp_param
    factor = 1.0 if p.base == -1 else math.log(p.base)
    return [torch.exp(factor * (p.scale * x[0] + p.shift))]


def _log(
    layer: pb.LayerParameter, x: list[Tensor], w: Sequence[Tensor], _: Context
) -> list[Tensor]:
    p = layer.log_param
    factor = 1.0 if p.base == -1 else 1.0 / math.log(p.base)
    return [torch.log(p.scale * x[0] + p.shift) * factor]


def _one(function: Callable[[Tensor], Tensor]) -> Forward:
    return lambda layer, x, w, c: [function(x[0])]


FORWARD: dict[str, Forward] = {
    "AbsVal": _one(torch.abs),
    "Accuracy": _accuracy,
    "BatchNorm": _batch_norm,
    "Bias": _bias,
    "BNLL": _one(F.softplus),
    "Concat": _concat,
    "Convolution": _convolution,
    "Dropout": _dropout,
    "Eltwise": _eltwise,
    "ELU": lambda layer, x, w, c: [F.elu(x[0], layer.elu_param.alpha)],
    "Exp": _exp,
    "Flatten": _flatten,
    "InnerProduct": _inner_product,
    "Log": _log,
    "LRN": _lrn,
    "Pooling": _pooling,
    "Power": _power,
    "PReLU": _prelu,
    "ReLU": _relu,
    "Reshape": _to_shape,
    "Scale": _scale,
    "Sigmoid": _one(torch.sigmoid),
    "Silence": lambda layer, x, w, c: [],
    "Slice": _slice,
    "Softmax": _softmax,
    "SoftmaxWithLoss": _softmax_loss,
    "Split": lambda layer, x, w, c: [x[0]] * len(layer.top),
    "TanH": _one(torch.tanh),
    "Threshold": lambda layer, x, w, c: [(x[0] > layer.threshold_param.threshold).to(x[0].dtype)],
}
