"""Layers that multiply, add, normalise, select or move values."""

from __future__ import annotations

from itertools import pairwise

from recaffe.errors import NetError
from recaffe.net.shapes.base import Params, Result, Shape, axis_of, count, legacy, weight_and_bias
from recaffe.proto import caffe_pb2 as pb

_ZERO = pb.FillerParameter()
_ONE = pb.FillerParameter(type="constant", value=1)
_QUARTER = pb.FillerParameter(type="constant", value=0.25)


def inner_product(layer: pb.LayerParameter, bottoms: list[Shape]) -> Result:
    """Axes from `axis` on become num_output."""
    p = layer.inner_product_param
    axis = axis_of(p.axis, bottoms[0])
    inputs = count(bottoms[0][axis:])
    weight = (inputs, p.num_output) if p.transpose else (p.num_output, inputs)
    params = weight_and_bias(weight, p.num_output, p.bias_term, (p.weight_filler, p.bias_filler))
    return [(*bottoms[0][:axis], p.num_output)], params


def embed(layer: pb.LayerParameter, bottoms: list[Shape]) -> Result:
    """A new last axis of num_output."""
    p = layer.embed_param
    if p.input_dim <= 0:
        raise NetError("input_dim is missing or 0.")
    params = weight_and_bias(
        (p.input_dim, p.num_output), p.num_output, p.bias_term, (p.weight_filler, p.bias_filler)
    )
    return [(*bottoms[0], p.num_output)], params


def batch_norm(layer: pb.LayerParameter, bottoms: list[Shape]) -> Result:
    """Three statistics: sums of means and of variances, and what to divide them by."""
    if len(bottoms[0]) < 2:
        raise NetError(f"it wants a bottom with channels, not {bottoms[0]}.")
    if any(p.HasField("lr_mult") and p.lr_mult != 0 for p in layer.param):
        raise NetError("its statistics aren't learned: lr_mult must be 0.")
    c = bottoms[0][1]
    return [bottoms[0]], [((c,), _ZERO), ((c,), _ZERO), ((1,), _ZERO)]


def scale(layer: pb.LayerParameter, bottoms: list[Shape]) -> Result:
    """Factors from the second bottom, or learned; with bias_term a learned bias of their shape."""
    p = layer.scale_param
    params: Params = []
    if len(bottoms) > 1:
        shape = _fitting(bottoms, p.axis)
    else:
        shape = _axes(bottoms[0], p.axis, p.num_axes)
        params = [(shape, p.filler if p.HasField("filler") else _ONE)]
    if p.bias_term:
        params.append((shape, p.bias_filler))
    return [bottoms[0]], params


def bias(layer: pb.LayerParameter, bottoms: list[Shape]) -> Result:
    """What is added comes from the second bottom, or is learned."""
    p = layer.bias_param
    if len(bottoms) > 1:
        _fitting(bottoms, p.axis)
        return [bottoms[0]], []
    return [bottoms[0]], [(_axes(bottoms[0], p.axis, p.num_axes), p.filler)]


def _fitting(bottoms: list[Shape], axis: int) -> Shape:
    first, second = bottoms
    start = axis_of(axis, first) if second else 0
    if first[start : start + len(second)] != second:
        raise NetError(f"the second bottom {second} doesn't fit {first} from axis {axis} on.")
    return second


def _axes(shape: Shape, axis: int, num_axes: int) -> Shape:
    start = axis_of(axis, shape)
    if num_axes < -1 or start + num_axes > len(shape):
        raise NetError(f"num_axes {num_axes} from axis {axis} on doesn't fit {shape}.")
    return shape[start:] if num_axes == -1 else shape[start : start + num_axes]


def prelu(layer: pb.LayerParameter, bottoms: list[Shape]) -> Result:
    """One slope a channel, or one in all."""
    p = layer.prelu_param
    if len(bottoms[0]) < 2:
        raise NetError(f"it wants a bottom with channels, not {bottoms[0]}.")
    filler = p.filler if p.HasField("filler") else _QUARTER
    return [bottoms[0]], [(() if p.channel_shared else (bottoms[0][1],), filler)]


def mvn(layer: pb.LayerParameter, bottoms: list[Shape]) -> Result:
    """N×C×H×W, whatever the bottom had."""
    return [legacy(bottoms[0])], []


def eltwise(layer: pb.LayerParameter, bottoms: list[Shape]) -> Result:
    """Bottoms of one shape."""
    p = layer.eltwise_param
    if any(b != bottoms[0] for b in bottoms):
        raise NetError(f"bottoms must have one shape, not {bottoms}.")
    if p.coeff and p.operation == pb.EltwiseParameter.PROD:
        raise NetError("coeff goes with the operation SUM only.")
    if p.coeff and len(p.coeff) != len(bottoms):
        raise NetError(f"{len(p.coeff)} coeff for {len(bottoms)} bottoms.")
    return [bottoms[0]], []


def concat_axis(p: pb.ConcatParameter, shape: Shape) -> int:
    """Where a Concat joins, in either of its forms."""
    if p.HasField("axis") and p.HasField("concat_dim"):
        raise NetError("give either axis or concat_dim; not both.")
    return axis_of(p.concat_dim if p.HasField("concat_dim") else p.axis, shape)


def slice_axis(p: pb.SliceParameter, shape: Shape) -> int:
    """Where a Slice cuts, in either of its forms."""
    if p.HasField("axis") and p.HasField("slice_dim"):
        raise NetError("give either axis or slice_dim; not both.")
    return axis_of(p.slice_dim if p.HasField("slice_dim") else p.axis, shape)


def concat(layer: pb.LayerParameter, bottoms: list[Shape]) -> Result:
    """Bottoms one after the other along an axis."""
    axis = concat_axis(layer.concat_param, bottoms[0])
    for shape in bottoms[1:]:
        if len(shape) != len(bottoms[0]) or any(
            a != b for i, (a, b) in enumerate(zip(shape, bottoms[0], strict=True)) if i != axis
        ):
            raise NetError(f"bottoms {bottoms} differ in more than axis {axis}.")
    top = list(bottoms[0])
    top[axis] = sum(b[axis] for b in bottoms)
    return [tuple(top)], []


def slices(layer: pb.LayerParameter, bottoms: list[Shape]) -> Result:
    """The bottom cut at slice_point, or into equal parts."""
    p, b, n = layer.slice_param, bottoms[0], len(layer.top)
    axis = slice_axis(p, b)
    points = list(p.slice_point)
    if not points:
        if b[axis] % n:
            raise NetError(f"{n} tops can't be equal parts of axis {axis} of {b}.")
        points = [b[axis] // n * i for i in range(1, n)]
    edges = [0, *points, b[axis]]
    if len(points) != n - 1 or any(lo >= hi for lo, hi in pairwise(edges)):
        raise NetError(f"slice_point {points} must rise and give {n} parts of axis {axis} of {b}.")
    return [(*b[:axis], hi - lo, *b[axis + 1 :]) for lo, hi in pairwise(edges)], []


def flatten(layer: pb.LayerParameter, bottoms: list[Shape]) -> Result:
    """Axes `axis` to `end_axis` become one."""
    p, b = layer.flatten_param, bottoms[0]
    start, end = axis_of(p.axis, b), axis_of(p.end_axis, b)
    return [(*b[:start], count(b[start : end + 1]), *b[end + 1 :])], []


def reshape(layer: pb.LayerParameter, bottoms: list[Shape]) -> Result:
    """num_axes axes from `axis` on become `shape`: 0 copies an axis, -1 is what is left."""
    p, b = layer.reshape_param, bottoms[0]
    start = p.axis if p.axis >= 0 else len(b) + p.axis + 1
    end = len(b) if p.num_axes == -1 else start + p.num_axes
    if not 0 <= start <= end <= len(b):
        raise NetError(f"axis {p.axis} and num_axes {p.num_axes} don't fit {b}.")
    if list(p.shape.dim).count(-1) > 1:
        raise NetError("shape may have one -1 at most.")
    middle = [b[start + i] if d == 0 else d for i, d in enumerate(p.shape.dim)]
    if -1 in middle:
        known = count([d for d in middle if d != -1])
        middle[middle.index(-1)] = count(b[start:end]) // max(known, 1)
    shape = (*b[:start], *middle, *b[end:])
    if count(shape) != count(b):
        raise NetError(f"{b} can't become {shape}.")
    return [shape], []


def reduction(layer: pb.LayerParameter, bottoms: list[Shape]) -> Result:
    """Axes from `axis` on go."""
    return [bottoms[0][: axis_of(layer.reduction_param.axis, bottoms[0])]], []


def tile(layer: pb.LayerParameter, bottoms: list[Shape]) -> Result:
    """The bottom `tiles` times along an axis."""
    p, b = layer.tile_param, bottoms[0]
    axis = axis_of(p.axis, b)
    if p.tiles <= 0:
        raise NetError("tiles is missing or 0.")
    return [(*b[:axis], b[axis] * p.tiles, *b[axis + 1 :])], []


def argmax(layer: pb.LayerParameter, bottoms: list[Shape]) -> Result:
    """With an axis: it shrinks to top_k. Without: N × 1 (2 with out_max_val) × top_k."""
    p, b = layer.argmax_param, bottoms[0]
    axis = axis_of(p.axis, b) if p.HasField("axis") else None
    if not 1 <= p.top_k <= (count(b[1:]) if axis is None else b[axis]):
        raise NetError(f"top_k {p.top_k} doesn't fit {b}.")
    if axis is not None:
        return [(*b[:axis], p.top_k, *b[axis + 1 :])], []
    return [(b[0], 2 if p.out_max_val else 1, p.top_k, *(1,) * (len(b) - 3))], []


def batch_reindex(layer: pb.LayerParameter, bottoms: list[Shape]) -> Result:
    """As many pictures as the second bottom has indices."""
    if len(bottoms[1]) != 1:
        raise NetError(f"its indices must have one axis, not {bottoms[1]}.")
    return [(*bottoms[1], *bottoms[0][1:])], []


def filtered(layer: pb.LayerParameter, bottoms: list[Shape]) -> Result:
    """All but the last bottom, which selects; how many stay shows when it runs."""
    *others, selector = bottoms
    if count(selector[1:]) != 1 or any(b[0] != selector[0] for b in others):
        raise NetError(f"the selector {selector} must have one value for each picture of {others}.")
    if len(layer.top) != len(others):
        raise NetError(f"it has {len(layer.top)} tops for {len(others)} bottoms to filter.")
    return others, []


def copies(layer: pb.LayerParameter, bottoms: list[Shape]) -> Result:
    """The bottom once for each top."""
    return [bottoms[0]] * len(layer.top), []


def nothing(layer: pb.LayerParameter, bottoms: list[Shape]) -> Result:
    """No top."""
    return [], []


def parameter(layer: pb.LayerParameter, bottoms: list[Shape]) -> Result:
    """A learned blob as a top."""
    shape = tuple(layer.parameter_param.shape.dim)
    return [shape], [(shape, _ZERO)]


def inputs(layer: pb.LayerParameter, bottoms: list[Shape]) -> Result:
    """One shape for all tops, or one each."""
    shapes = [tuple(s.dim) for s in layer.input_param.shape]
    if len(shapes) not in (0, 1, len(layer.top)):
        raise NetError(f"{len(shapes)} shapes for {len(layer.top)} tops.")
    return (shapes * len(layer.top) if len(shapes) == 1 else shapes), []
