"""Windows of convolution and pooling, and the sizes that they make.

Source: `LayerSetUp` of `BaseConvolutionLayer` and `PoolingLayer` in BVLC Caffe 1.0.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from recaffe.errors import NetError
from recaffe.net.shapes.base import Shape
from recaffe.proto import caffe_pb2 as pb


@dataclass(frozen=True)
class Window:
    """Kernel, stride, pad and dilation, each with one number for every spatial axis."""

    kernel: Shape
    stride: Shape
    pad: Shape
    dilation: Shape = (1, 1)


def conv_window(p: pb.ConvolutionParameter, axes: int = 2) -> Window:
    """The window of a Convolution, Deconvolution or Im2col over `axes` spatial axes."""
    kernel = _spatial("kernel_size", p.kernel_size, _pair(p, "kernel"), axes, None)
    stride = _spatial("stride", p.stride, _pair(p, "stride"), axes, 1)
    if min(kernel, default=1) <= 0 or min(stride, default=1) <= 0:
        raise NetError(f"kernel_size {kernel} and stride {stride} must be positive.")
    dilation = _spatial("dilation", p.dilation, None, axes, 1)
    if min(dilation, default=1) <= 0:
        raise NetError(f"dilation {dilation} must be positive.")
    return Window(kernel, stride, _spatial("pad", p.pad, _pair(p, "pad"), axes, 0), dilation)


def pool_window(p: pb.PoolingParameter, bottom: Shape) -> Window:
    """The window of a Pooling layer; global pooling takes the whole bottom."""
    named = (p.HasField("kernel_h"), p.HasField("kernel_w"))
    if p.global_pooling:
        if p.HasField("kernel_size") or any(named):
            raise NetError("global_pooling takes the whole bottom; remove kernel_size.")
        if p.pad or p.pad_h or p.pad_w or p.stride != 1 or p.stride_h > 1 or p.stride_w > 1:
            raise NetError("global_pooling goes with pad 0 and stride 1 only.")
        return Window((bottom[2], bottom[3]), (1, 1), (0, 0))
    if p.HasField("kernel_size") == all(named):
        raise NetError("give either kernel_size, or kernel_h and kernel_w.")
    pad, stride = _pair(p, "pad"), _pair(p, "stride")
    window = Window(
        (p.kernel_size,) * 2 if p.HasField("kernel_size") else (p.kernel_h, p.kernel_w),
        (p.stride,) * 2 if stride is None else stride,
        (p.pad,) * 2 if pad is None else pad,
    )
    if 0 in window.kernel or 0 in window.stride:
        raise NetError(f"kernel_size {window.kernel} and stride {window.stride} must be positive.")
    return window


def pool_size(size: int, kernel: int, stride: int, pad: int, ceil: bool, padded: bool) -> int:
    """Caffe's pooled size. With `padded` (on any axis) a last window in the padding is dropped."""
    span = size + 2 * pad - kernel
    out = (-(-span // stride) if ceil else span // stride) + 1
    if padded and (out - 1) * stride >= size + pad:
        out -= 1
    return out


def _pair(p: pb.ConvolutionParameter | pb.PoolingParameter, field: str) -> tuple[int, int] | None:
    """The fields `_h` and `_w`, if the layer has them; raises `NetError` beside the plain one."""
    h, w = (f"{field}_h", f"{field}_w")
    if not (p.HasField(h) or p.HasField(w)):
        return None
    plain = "kernel_size" if field == "kernel" else field
    repeated = isinstance(p, pb.ConvolutionParameter)
    if len(getattr(p, plain)) if repeated else p.HasField(plain):
        raise NetError(f"give either {plain}, or {h} and {w}; not both.")
    if not (repeated or (p.HasField(h) and p.HasField(w))):
        raise NetError(f"give both {h} and {w}.")
    return getattr(p, h), getattr(p, w)


def _spatial(
    name: str, values: Sequence[int], pair: Shape | None, axes: int, default: int | None
) -> Shape:
    if pair is not None:
        if axes != 2:
            raise NetError(f"{name}_h and {name}_w want two spatial axes, not {axes}.")
        return pair
    if len(values) == 1:
        return (values[0],) * axes
    if values and len(values) == axes:
        return tuple(values)
    if not values and default is not None:
        return (default,) * axes
    raise NetError(f"give {name} once, or once for each of {axes} spatial axes.")
