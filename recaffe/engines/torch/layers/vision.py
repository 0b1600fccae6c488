"""Layers that look at pictures: windows over height and width."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from recaffe.engines.torch.layers.base import Context, shape
from recaffe.net import shapes
from recaffe.net.shapes.vision import crop_offsets
from recaffe.net.shapes.windows import Window
from recaffe.proto import caffe_pb2 as pb

_CONV: dict[int, Callable[..., Tensor]] = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}
_TRANSPOSED: dict[int, Callable[..., Tensor]] = {
    1: F.conv_transpose1d,
    2: F.conv_transpose2d,
    3: F.conv_transpose3d,
}
# What no value is less than, where a window hangs over the edge.
_LEAST = -3.402823466e38


def convolution(
    layer: pb.LayerParameter, x: list[Tensor], w: Sequence[Tensor], _: Context
) -> list[Tensor]:
    """Each bottom by the same weights. Axes before the channels are pictures."""
    return _by_windows(layer, x, w, _CONV)


def deconvolution(
    layer: pb.LayerParameter, x: list[Tensor], w: Sequence[Tensor], _: Context
) -> list[Tensor]:
    """The backward pass of a convolution."""
    return _by_windows(layer, x, w, _TRANSPOSED)


def _by_windows(
    layer: pb.LayerParameter,
    x: list[Tensor],
    w: Sequence[Tensor],
    by_axes: dict[int, Callable[..., Tensor]],
) -> list[Tensor]:
    p, axes = layer.convolution_param, w[0].dim() - 2
    win, run = shapes.conv_window(p, axes), by_axes[axes]
    bias = w[1] if p.bias_term else None
    named = {"stride": win.stride, "padding": win.pad, "dilation": win.dilation, "groups": p.group}
    return [_unfold(run(_fold(b, axes), w[0], bias, **named), b, axes) for b in x]


def _fold(b: Tensor, axes: int) -> Tensor:
    """All axes before the channels as one."""
    return b if b.dim() == axes + 2 else b.reshape(-1, *b.shape[-axes - 1 :])


def _unfold(out: Tensor, b: Tensor, axes: int) -> Tensor:
    if b.dim() == axes + 2:
        return out
    return out.reshape(*b.shape[: b.dim() - axes - 1], *out.shape[1:])


def im2col(
    layer: pb.LayerParameter, x: list[Tensor], w: Sequence[Tensor], _: Context
) -> list[Tensor]:
    """Each window's values as channels."""
    win = shapes.conv_window(layer.convolution_param)
    top = shapes.tops_of(layer, [shape(x[0])])[0]
    columns = F.unfold(_fold(x[0], 2), win.kernel, win.dilation, win.pad, win.stride)
    return [columns.reshape(top)]


def pooling(
    layer: pb.LayerParameter, x: list[Tensor], w: Sequence[Tensor], _: Context
) -> list[Tensor]:
    """MAX (the first of equals wins) with its places as a second top, or AVE."""
    p, b = layer.pooling_param, x[0]
    win = shapes.pool_window(p, shape(b))
    if p.pool == pb.PoolingParameter.AVE:
        return [b.mean((2, 3), keepdim=True) if p.global_pooling else _average(layer, b, win)]
    places = len(layer.top) > 1
    if _too_wide(win):
        return _padded_max(layer, b, win)
    ceil = p.round_mode == pb.PoolingParameter.CEIL
    if not places:
        return [F.max_pool2d(b, win.kernel, win.stride, win.pad, 1, ceil)]
    top, index = F.max_pool2d(b, win.kernel, win.stride, win.pad, 1, ceil, return_indices=True)
    return [top, index.to(b.dtype)]


def _average(layer: pb.LayerParameter, b: Tensor, win: Window) -> Tensor:
    """Sums over windows, divided by the part of each that lies on the padded picture."""
    p = layer.pooling_param
    if not _too_wide(win):
        ceil = p.round_mode == pb.PoolingParameter.CEIL
        return F.avg_pool2d(b, win.kernel, win.stride, win.pad, ceil, count_include_pad=True)
    h, w = shapes.tops_of(layer, [shape(b)])[0][2:]
    summed = F.avg_pool2d(_pad(b, win, (h, w), 0.0), win.kernel, win.stride, divisor_override=1)
    sizes = [
        torch.tensor(
            [min(i * stride + kernel, size + 2 * pad) - i * stride for i in range(out)],
            dtype=b.dtype,
            device=b.device,
        )
        for size, out, kernel, stride, pad in zip(
            b.shape[2:], (h, w), win.kernel, win.stride, win.pad, strict=True
        )
    ]
    return summed / (sizes[0][:, None] * sizes[1])


def _too_wide(win: Window) -> bool:
    """Whether a pad is more than half its kernel, which PyTorch's pooling refuses."""
    return any(2 * pad > k for pad, k in zip(win.pad, win.kernel, strict=True))


def _padded_max(layer: pb.LayerParameter, b: Tensor, win: Window) -> list[Tensor]:
    h, w = shapes.tops_of(layer, [shape(b)])[0][2:]
    padded = _pad(b, win, (h, w), _LEAST)
    top, index = F.max_pool2d(padded, win.kernel, win.stride, return_indices=True)
    row, column = index // padded.shape[3] - win.pad[0], index % padded.shape[3] - win.pad[1]
    return [top, (row * b.shape[3] + column).to(b.dtype)][: len(layer.top)]


def _pad(b: Tensor, win: Window, out: tuple[int, int], value: float) -> Tensor:
    """The picture with its padding, as wide as `out` windows reach."""
    edges: list[int] = []
    for i in (1, 0):  # F.pad begins with the last axis
        reach = (out[i] - 1) * win.stride[i] + win.kernel[i]
        edges += [win.pad[i], reach - win.pad[i] - b.shape[2 + i]]
    return F.pad(b, edges, value=value)


def crop(
    layer: pb.LayerParameter, x: list[Tensor], w: Sequence[Tensor], _: Context
) -> list[Tensor]:
    """The first bottom cut to the second's sizes."""
    out = x[0]
    offsets = crop_offsets(layer, shape(out))
    for i, offset in enumerate(offsets, out.dim() - len(offsets)):
        out = out.narrow(i, offset, x[1].shape[i])
    return [out]
