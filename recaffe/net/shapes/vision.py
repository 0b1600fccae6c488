"""Layers that look at pictures: windows over height and width."""

from __future__ import annotations

from recaffe import real_caffe
from recaffe.errors import NetError
from recaffe.net.shapes.base import Result, Shape, axis_of, count, four, weight_and_bias
from recaffe.net.shapes.windows import Window, conv_window, pool_size, pool_window
from recaffe.proto import caffe_pb2 as pb


def _conv(layer: pb.LayerParameter, bottoms: list[Shape]) -> tuple[Shape, int, Shape, Window]:
    """(axes before the channels, channels, spatial sizes, window) of a convolution's bottom."""
    p, b = layer.convolution_param, bottoms[0]
    if any(other != b for other in bottoms):
        raise NetError(f"its bottoms must have one shape, not {bottoms}.")
    axis = axis_of(p.axis, b)
    size = b[axis + 1 :]
    if not 1 <= len(size) <= 3:
        raise NetError(f"the torch engine convolves over 1 to 3 axes, not over those of {size}.")
    return b[:axis], b[axis], size, conv_window(p, len(size))


def _extent(win: Window, i: int) -> int:
    return win.dilation[i] * (win.kernel[i] - 1) + 1


def _check_group(p: pb.ConvolutionParameter, channels: int) -> None:
    if p.num_output and (channels % p.group or p.num_output % p.group):
        raise NetError(f"group {p.group} must divide {channels} inputs and {p.num_output} outputs.")


def convolution(layer: pb.LayerParameter, bottoms: list[Shape]) -> Result:
    """Rounded down. Weight: outputs × inputs of a group × kernel."""
    p = layer.convolution_param
    outer, c, size, win = _conv(layer, bottoms)
    _check_group(p, c)
    top = [(s + 2 * win.pad[i] - _extent(win, i)) // win.stride[i] + 1 for i, s in enumerate(size)]
    params = weight_and_bias(
        (p.num_output, c // p.group, *win.kernel), p.num_output, p.bias_term,
        (p.weight_filler, p.bias_filler),
    )  # fmt: skip
    return [(*outer, p.num_output, *top)] * len(bottoms), params


def deconvolution(layer: pb.LayerParameter, bottoms: list[Shape]) -> Result:
    """A convolution's backward pass. Weight: inputs × outputs of a group × kernel."""
    p = layer.convolution_param
    outer, c, size, win = _conv(layer, bottoms)
    _check_group(p, c)
    top = [win.stride[i] * (s - 1) + _extent(win, i) - 2 * win.pad[i] for i, s in enumerate(size)]
    params = weight_and_bias(
        (c, p.num_output // p.group, *win.kernel), p.num_output, p.bias_term,
        (p.weight_filler, p.bias_filler),
    )  # fmt: skip
    return [(*outer, p.num_output, *top)] * len(bottoms), params


def im2col(layer: pb.LayerParameter, bottoms: list[Shape]) -> Result:
    """Each window's values as channels."""
    outer, c, size, win = _conv(layer, bottoms)
    if len(size) != 2:
        raise NetError(f"the torch engine's Im2col wants two spatial axes, not those of {size}.")
    top = [(s + 2 * win.pad[i] - _extent(win, i)) // win.stride[i] + 1 for i, s in enumerate(size)]
    return [(*outer, c * count(win.kernel), *top)], []


def pooling(layer: pb.LayerParameter, bottoms: list[Shape]) -> Result:
    """Rounded up unless round_mode says FLOOR; MAX may have a second top with the places."""
    p = layer.pooling_param
    n, c, h, w = four(bottoms[0])
    if p.pool == pb.PoolingParameter.STOCHASTIC:
        raise NetError(
            f"the torch engine has no STOCHASTIC pooling. {real_caffe.can('train this net')}"
        )
    win = pool_window(p, bottoms[0])
    if any(pad >= k for pad, k in zip(win.pad, win.kernel, strict=True)):
        raise NetError(f"pad {win.pad} must be smaller than the kernel {win.kernel}.")
    ceil = p.round_mode == pb.PoolingParameter.CEIL
    top = [
        pool_size(s, win.kernel[i], win.stride[i], win.pad[i], ceil, any(win.pad))
        for i, s in enumerate((h, w))
    ]
    for i, s in enumerate((h, w)):
        if (top[i] - 1) * win.stride[i] >= s + win.pad[i] and top[i] > 0:
            raise NetError(
                f"its last window starts behind the bottom {bottoms[0]}, where Caffe reads memory "
                "that isn't the blob's. Set round_mode: FLOOR, or a stride not above the kernel."
            )
    masks = 2 if p.pool == pb.PoolingParameter.MAX else 1
    return [(n, c, *top)] * max(1, min(masks, len(layer.top))), []


def lrn(layer: pb.LayerParameter, bottoms: list[Shape]) -> Result:
    """Like its bottom; local_size is odd."""
    if layer.lrn_param.local_size % 2 == 0:
        raise NetError(f"local_size must be odd, not {layer.lrn_param.local_size}.")
    return [four(bottoms[0])], []


def crop(layer: pb.LayerParameter, bottoms: list[Shape]) -> Result:
    """The first bottom cut to the second's sizes, from `axis` on."""
    first, second = bottoms[0], bottoms[1]
    offsets = crop_offsets(layer, first)
    if len(first) != len(second):
        raise NetError(f"bottoms {bottoms} must have the same number of axes.")
    start = len(first) - len(offsets)
    for i, offset in enumerate(offsets, start):
        if first[i] - offset < second[i]:
            raise NetError(
                f"{second[i]} values from offset {offset} on don't fit axis {i} of {first}."
            )
    return [(*first[:start], *second[start:])], []


def crop_offsets(layer: pb.LayerParameter, bottom: Shape) -> list[int]:
    """Where the crop starts, for each axis from `axis` on."""
    p = layer.crop_param
    axes = len(bottom) - axis_of(p.axis, bottom)
    if len(p.offset) > 1 and len(p.offset) != axes:
        raise NetError(f"give one offset, or one for each of {axes} axes, not {len(p.offset)}.")
    offsets = list(p.offset) or [0]
    return offsets * axes if len(offsets) == 1 else offsets
