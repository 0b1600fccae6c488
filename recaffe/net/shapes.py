"""Shapes of blobs and parameters, by Caffe's own rules, without building anything.

Source: the `LayerSetUp` and `Reshape` of each layer in BVLC Caffe 1.0.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from recaffe.errors import NetError
from recaffe.proto import caffe_pb2 as pb

Shape = tuple[int, ...]
_ZERO = pb.FillerParameter()
_ONE = pb.FillerParameter(type="constant", value=1)


@dataclass
class LayerShapes:
    """A layer with the shapes of what it reads, makes and learns (`params` with their fillers)."""

    layer: pb.LayerParameter
    bottoms: list[Shape]
    tops: list[Shape]
    params: list[tuple[Shape, pb.FillerParameter]]


def walk(layers: Sequence[pb.LayerParameter], inputs: dict[str, Shape]) -> list[LayerShapes]:
    """Shapes of a net of one phase; `inputs` gives those of the blobs that data layers make.

    Raises `NetError` for a bottom that nothing makes, or a shape that doesn't fit.
    """
    blobs: dict[str, Shape] = dict(inputs)
    out = []
    for layer in layers:
        for name in layer.bottom:
            if name not in blobs:
                raise NetError(
                    f"Layer {layer.name!r}: no layer above makes its bottom {name!r}. Known blobs: "
                    f"{', '.join(list(blobs)[-8:])}."
                )
        bottoms = [blobs[name] for name in layer.bottom]
        if layer.type in _RULES:
            try:
                tops, params = _RULES[layer.type](layer, bottoms)
            except NetError as error:
                raise NetError(f"Layer {layer.name!r} ({layer.type}): {error}") from error
            except (IndexError, ZeroDivisionError) as error:
                raise NetError(
                    f"Layer {layer.name!r} ({layer.type}): its bottom is {bottoms}, which doesn't fit."
                ) from error
        elif all(name in inputs for name in layer.top) and not layer.bottom:
            tops, params = [inputs[name] for name in layer.top], []
        else:
            raise NetError(
                f"Layer {layer.name!r} has the type {layer.type!r}, which the torch engine doesn't "
                "know. Real Caffe may: train this net with the caffe engine."
            )
        if any(d <= 0 for shape in tops for d in shape):
            raise NetError(
                f"Layer {layer.name!r} ({layer.type}) would make the empty shape {tops} from "
                f"{bottoms}: the pictures are too small for this net. Raise crop_size or lmdb.width "
                "and lmdb.height."
            )
        if len(tops) < len(layer.top):
            raise NetError(f"Layer {layer.name!r} has {len(layer.top)} tops, its type {len(tops)}.")
        for name, shape in zip(layer.top, tops, strict=False):
            blobs[name] = shape
        out.append(LayerShapes(layer, bottoms, tops, params))
    return out


def tops_of(layer: pb.LayerParameter, bottoms: list[Shape]) -> list[Shape]:
    """Shapes of one layer's tops."""
    return _RULES[layer.type](layer, bottoms)[0]


def count(shape: Shape) -> int:
    """Number of values."""
    return math.prod(shape)


def spatial(values: Sequence[int], h: int, w: int, has_hw: bool, default: int) -> tuple[int, int]:
    """Caffe's (height, width) of a repeated field with `_h` and `_w` siblings."""
    if has_hw:
        return h, w
    if not values:
        return default, default
    return (values[0], values[0]) if len(values) == 1 else (values[0], values[1])


@dataclass(frozen=True)
class Window:
    """Kernel, stride, pad and dilation of a convolution or pooling, each (height, width)."""

    kernel: tuple[int, int]
    stride: tuple[int, int]
    pad: tuple[int, int]
    dilation: tuple[int, int] = (1, 1)


def conv_window(p: pb.ConvolutionParameter) -> Window:
    """The window of a Convolution or Deconvolution."""
    kernel = spatial(p.kernel_size, p.kernel_h, p.kernel_w, p.HasField("kernel_h"), 0)
    if 0 in kernel:
        raise NetError("kernel_size is missing or 0.")
    return Window(
        kernel,
        spatial(p.stride, p.stride_h, p.stride_w, p.HasField("stride_h"), 1),
        spatial(p.pad, p.pad_h, p.pad_w, p.HasField("pad_h") or p.HasField("pad_w"), 0),
        spatial(p.dilation, 0, 0, False, 1),
    )


def pool_window(p: pb.PoolingParameter, bottom: Shape) -> Window:
    """The window of a Pooling layer; global pooling takes the whole bottom."""
    if p.global_pooling:
        return Window((bottom[2], bottom[3]), (1, 1), (0, 0))
    kernel = (p.kernel_h, p.kernel_w) if p.HasField("kernel_h") else (p.kernel_size,) * 2
    if 0 in kernel:
        raise NetError("kernel_size is missing or 0.")
    stride = (p.stride_h, p.stride_w) if p.HasField("stride_h") else (p.stride,) * 2
    pad = (p.pad_h, p.pad_w) if p.HasField("pad_h") else (p.pad,) * 2
    return Window(kernel, stride, pad)


def pool_size(size: int, kernel: int, stride: int, pad: int, ceil: bool = True) -> int:
    """Caffe's pooled size: rounded up, a last window that would start in the padding dropped."""
    span = size + 2 * pad - kernel
    out = (-(-span // stride) if ceil else span // stride) + 1
    if pad and (out - 1) * stride >= size + pad:
        out -= 1
    return out


def axis_of(axis: int, shape: Shape) -> int:
    """A canonical axis; raises `NetError` if it is out of range."""
    if not -len(shape) <= axis < len(shape):
        raise NetError(f"axis {axis} is out of range for a bottom of shape {shape}.")
    return axis % len(shape)


Result = tuple[list[Shape], list[tuple[Shape, pb.FillerParameter]]]


def _same(layer: pb.LayerParameter, bottoms: list[Shape]) -> Result:
    return [bottoms[0]], []


def _convolution(layer: pb.LayerParameter, bottoms: list[Shape]) -> Result:
    p = layer.convolution_param
    n, c, h, w = _four(bottoms[0])
    if c % p.group or p.num_output % p.group:
        raise NetError(f"group {p.group} must divide {c} inputs and {p.num_output} outputs.")
    win = conv_window(p)
    size = [
        (s + 2 * win.pad[i] - (win.dilation[i] * (win.kernel[i] - 1) + 1)) // win.stride[i] + 1
        for i, s in enumerate((h, w))
    ]
    params: list[tuple[Shape, pb.FillerParameter]] = [
        ((p.num_output, c // p.group, *win.kernel), p.weight_filler)
    ]
    if p.bias_term:
        params.append(((p.num_output,), p.bias_filler))
    return [(n, p.num_output, *size)] * len(bottoms), params


def _inner_product(layer: pb.LayerParameter, bottoms: list[Shape]) -> Result:
    p = layer.inner_product_param
    axis = axis_of(p.axis, bottoms[0])
    inputs = count(bottoms[0][axis:])
    weight = (inputs, p.num_output) if p.transpose else (p.num_output, inputs)
    params: list[tuple[Shape, pb.FillerParameter]] = [(weight, p.weight_filler)]
    if p.bias_term:
        params.append(((p.num_output,), p.bias_filler))
    return [(*bottoms[0][:axis], p.num_output)], params


def _pooling(layer: pb.LayerParameter, bottoms: list[Shape]) -> Result:
    p = layer.pooling_param
    n, c, h, w = _four(bottoms[0])
    win = pool_window(p, bottoms[0])
    if any(pad >= k for pad, k in zip(win.pad, win.kernel, strict=True)):
        raise NetError(f"pad {win.pad} must be smaller than the kernel {win.kernel}.")
    ceil = p.round_mode == pb.PoolingParameter.CEIL
    size = [
        pool_size(s, win.kernel[i], win.stride[i], win.pad[i], ceil) for i, s in enumerate((h, w))
    ]
    return [(n, c, *size)] * max(1, len(layer.top)), []


def _concat(layer: pb.LayerParameter, bottoms: list[Shape]) -> Result:
    p = layer.concat_param
    axis = p.concat_dim if p.HasField("concat_dim") else axis_of(p.axis, bottoms[0])
    for shape in bottoms[1:]:
        if len(shape) != len(bottoms[0]) or any(
            a != b for i, (a, b) in enumerate(zip(shape, bottoms[0], strict=True)) if i != axis
        ):
            raise NetError(f"bottoms {bottoms} differ in more than axis {axis}.")
    top = list(bottoms[0])
    top[axis] = sum(b[axis] for b in bottoms)
    return [tuple(top)], []


def _eltwise(layer: pb.LayerParameter, bottoms: list[Shape]) -> Result:
    if any(b != bottoms[0] for b in bottoms):
        raise NetError(f"bottoms must have one shape, not {bottoms}.")
    return [bottoms[0]], []


def _batch_norm(layer: pb.LayerParameter, bottoms: list[Shape]) -> Result:
    c = bottoms[0][1] if len(bottoms[0]) > 1 else 1
    return [bottoms[0]], [((c,), _ZERO), ((c,), _ZERO), ((1,), _ZERO)]


def _scale(layer: pb.LayerParameter, bottoms: list[Shape]) -> Result:
    p = layer.scale_param
    shape = bottoms[1] if len(bottoms) > 1 else _axes(bottoms[0], p.axis, p.num_axes)
    params = [] if len(bottoms) > 1 else [(shape, p.filler if p.HasField("filler") else _ONE)]
    if p.bias_term:
        params.append((shape, p.bias_filler))
    return [bottoms[0]], params


def _bias(layer: pb.LayerParameter, bottoms: list[Shape]) -> Result:
    p = layer.bias_param
    if len(bottoms) > 1:
        return [bottoms[0]], []
    return [bottoms[0]], [(_axes(bottoms[0], p.axis, p.num_axes), p.filler)]


def _axes(shape: Shape, axis: int, num_axes: int) -> Shape:
    start = axis_of(axis, shape)
    return shape[start:] if num_axes == -1 else shape[start : start + num_axes]


def _prelu(layer: pb.LayerParameter, bottoms: list[Shape]) -> Result:
    p = layer.prelu_param
    filler = p.filler if p.HasField("filler") else pb.FillerParameter(type="constant", value=0.25)
    return [bottoms[0]], [(() if p.channel_shared else (bottoms[0][1],), filler)]


def _flatten(layer: pb.LayerParameter, bottoms: list[Shape]) -> Result:
    p, b = layer.flatten_param, bottoms[0]
    start, end = axis_of(p.axis, b), axis_of(p.end_axis, b)
    return [(*b[:start], count(b[start : end + 1]), *b[end + 1 :])], []


def _reshape(layer: pb.LayerParameter, bottoms: list[Shape]) -> Result:
    p, b = layer.reshape_param, bottoms[0]
    start = p.axis if p.axis >= 0 else len(b) + p.axis + 1
    end = len(b) if p.num_axes == -1 else start + p.num_axes
    middle = [b[start + i] if d == 0 else d for i, d in enumerate(p.shape.dim)]
    if -1 in middle:
        known = count(tuple(d for d in middle if d != -1))
        middle[middle.index(-1)] = count(b[start:end]) // max(known, 1)
    shape = (*b[:start], *middle, *b[end:])
    if count(shape) != count(b):
        raise NetError(f"{b} can't become {shape}.")
    return [shape], []


def _slice(layer: pb.LayerParameter, bottoms: list[Shape]) -> Result:
    p, b, n = layer.slice_param, bottoms[0], len(layer.top)
    axis = p.slice_dim if p.HasField("slice_dim") else axis_of(p.axis, b)
    points = list(p.slice_point) or [b[axis] // n * i for i in range(1, n)]
    edges = [0, *points, b[axis]]
    return [(*b[:axis], hi - lo, *b[axis + 1 :]) for lo, hi in pairwise(edges)], []


def _copies(layer: pb.LayerParameter, bottoms: list[Shape]) -> Result:
    return [bottoms[0]] * len(layer.top), []


def _nothing(layer: pb.LayerParameter, bottoms: list[Shape]) -> Result:
    return [], []


def _input(layer: pb.LayerParameter, bottoms: list[Shape]) -> Result:
    shapes = [tuple(s.dim) for s in layer.input_param.shape]
    return (shapes * len(layer.top) if len(shapes) == 1 else shapes), []


def _loss(layer: pb.LayerParameter, bottoms: list[Shape]) -> Result:
    scores, labels = bottoms[0], bottoms[1]
    if scores[0] != labels[0]:
        raise NetError(f"scores {scores} and labels {labels} differ in their number.")
    return [(), bottoms[0]][: max(1, len(layer.top))], []


def _accuracy(layer: pb.LayerParameter, bottoms: list[Shape]) -> Result:
    axis = axis_of(layer.accuracy_param.axis, bottoms[0])
    classes = bottoms[0][axis]
    if layer.accuracy_param.top_k > classes:
        raise NetError(f"top_k {layer.accuracy_param.top_k} is more than the {classes} classes.")
    return [(), (classes,)][: max(1, len(layer.top))], []


def _four(shape: Shape) -> Shape:
    if len(shape) != 4:
        raise NetError(f"it wants a bottom of N×C×H×W, not {shape}.")
    return shape


_RULES: dict[str, Callable[[pb.LayerParameter, list[Shape]], Result]] = {
    **dict.fromkeys(
        ("AbsVal", "BNLL", "Dropout", "ELU", "Exp", "Log", "LRN", "Power", "ReLU", "Sigmoid",
         "Softmax", "TanH", "Threshold"),
        _same,
    ),
    "Accuracy": _accuracy,
    "BatchNorm": _batch_norm,
    "Bias": _bias,
    "Concat": _concat,
    "Convolution": _convolution,
    "Eltwise": _eltwise,
    "Flatten": _flatten,
    "InnerProduct": _inner_product,
    "Input": _input,
    "Pooling": _pooling,
    "PReLU": _prelu,
    "Reshape": _reshape,
    "Scale": _scale,
    "Silence": _nothing,
    "Slice": _slice,
    "SoftmaxWithLoss": _loss,
    "Split": _copies,
}  # fmt: skip
