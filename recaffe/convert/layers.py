"""Each layer type's piece.

Source: Caffe's `Forward_cpu` of each layer in the TEST phase.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from recaffe.convert.pieces import Piece, Spot, Unconvertible
from recaffe.net import shapes
from recaffe.net.shapes import Shape
from recaffe.net.shapes.common import concat_axis, slice_axis
from recaffe.net.shapes.vision import crop_offsets
from recaffe.proto import caffe_pb2 as pb

Emit = Callable[[Spot], Piece]


def _sizes(values: Shape) -> str:
    """One number where all axes have the same."""
    return str(values[0]) if len(set(values)) == 1 else str(tuple(values))


def _window(w: shapes.Window, stride: Shape) -> str:
    """The arguments after the channels, where they differ from PyTorch's defaults."""
    ones = (1,) * len(w.kernel)
    out = _sizes(w.kernel)
    for name, value, default in (
        ("stride", w.stride, stride),
        ("padding", w.pad, tuple(0 for _ in ones)),
        ("dilation", w.dilation, ones),
    ):
        out += "" if tuple(value) == default else f", {name}={_sizes(value)}"
    return out


def _number(value: float) -> str:
    """A float32 from a prototxt in the fewest digits that give it back."""
    return str(float(np.format_float_positional(np.float32(value), unique=True, trim="0")))


def _weight_bias(blobs: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
    return dict(zip(("weight", "bias"), blobs, strict=False))


def _convolution(s: Spot) -> Piece:
    p = s.layer.convolution_param
    axis = shapes.axis_of(p.axis, s.bottom)
    axes = len(s.bottom) - axis - 1
    if axis != 1 or axes not in (1, 2, 3):
        raise Unconvertible(f"a bottom of {len(s.bottom)} axes with the channels on axis {axis}")
    kind = "Conv" if s.layer.type == "Convolution" else "ConvTranspose"
    extra = f", groups={p.group}" if p.group > 1 else ""
    extra += "" if p.bias_term else ", bias=False"
    window = _window(shapes.conv_window(p, axes), (1,) * axes)
    expression = f"nn.{kind}{axes}d({s.bottom[1]}, {p.num_output}, {window}{extra})"
    return s.module(expression, _weight_bias(s.blobs))


def _inner_product(s: Spot) -> Piece:
    p = s.layer.inner_product_param
    axis = shapes.axis_of(p.axis, s.bottom)
    if axis == 0:
        raise Unconvertible("its axis is the batch")
    inputs = shapes.count(s.bottom[axis:])
    x = s.x[0] if axis == len(s.bottom) - 1 else f"{s.x[0]}.flatten({axis})"
    blobs = [s.blobs[0].T if p.transpose else s.blobs[0], *s.blobs[1:]]
    bias = "" if p.bias_term else ", bias=False"
    expression = f"nn.Linear({inputs}, {p.num_output}{bias})"
    return Piece([f"{s.me}({x})"], expression, _weight_bias(blobs))


def _pooling(s: Spot) -> Piece:
    p, x = s.layer.pooling_param, s.x[0]
    if len(s.layer.top) > 1:
        raise Unconvertible("its second top, the places of the maxima, has no counterpart")
    average = p.pool == pb.PoolingParameter.AVE
    if p.global_pooling:
        return Piece([f"{x}.{'mean' if average else 'amax'}((2, 3), keepdim=True)"])
    w = shapes.pool_window(p, s.bottom)
    # PyTorch's AvgPool2d divides by the window clipped to the padded picture, as Caffe does.
    kind = "AvgPool2d" if average else "MaxPool2d"
    ceil = ", ceil_mode=True" if p.round_mode == pb.PoolingParameter.CEIL else ""
    h, width = s.shaped.tops[0][2:]
    spans = [i + 2 * pad - k for i, pad, k in zip(s.bottom[2:], w.pad, w.kernel, strict=True)]
    floor = tuple(span // step + 1 for span, step in zip(spans, w.stride, strict=True))
    up = tuple(-(-span // step) + 1 for span, step in zip(spans, w.stride, strict=True))
    dropped = bool(ceil) and up != (h, width)
    if dropped and floor == (h, width):
        # ONNX doesn't drop a last window that starts in the padding; rounding down never makes it.
        ceil, dropped = "", False
    if not dropped and all(2 * pad <= k for pad, k in zip(w.pad, w.kernel, strict=True)):
        return s.module(f"nn.{kind}({_window(w, w.kernel)}{ceil})")
    # Also where there is more padding than PyTorch's own layers take.
    bare = f"nn.{kind}({_window(replace(w, pad=(0, 0)), w.kernel)}{ceil})"
    sides = (w.pad[1], w.pad[1], w.pad[0], w.pad[0])
    value = "" if average else ', value=float("-inf")'
    return Piece([f"{s.me}(F.pad({x}, {sides}{value}))[:, :, :{h}, :{width}]"], bare)


def _lrn(s: Spot) -> Piece:
    p, x, n = s.layer.lrn_param, s.x[0], s.layer.lrn_param.local_size
    alpha, beta, k = (_number(v) for v in (p.alpha, p.beta, p.k))
    if p.norm_region == pb.LRNParameter.ACROSS_CHANNELS:
        return s.module(f"nn.LocalResponseNorm({n}, alpha={alpha}, beta={beta}, k={k})")
    mean = f"F.avg_pool2d({x} * {x}, {n}, stride=1, padding={n // 2})"
    return Piece([f"{x} * (1 + {alpha} * {mean}) ** -{beta}"])


def _relu(s: Spot) -> Piece:
    slope = s.layer.relu_param.negative_slope
    return s.module(f"nn.LeakyReLU({_number(slope)})" if slope else "nn.ReLU()")


def _prelu(s: Spot) -> Piece:
    weight = s.blobs[0].reshape(-1)
    return s.module(f"nn.PReLU({weight.size})", {"weight": weight})


def _batch_norm(s: Spot) -> Piece:
    p, c, kind = s.layer.batch_norm_param, s.blobs[0].size, {4: "2d", 5: "3d"}.get(len(s.bottom), "1d")  # fmt: skip
    if p.HasField("use_global_stats") and not p.use_global_stats:
        raise Unconvertible("with use_global_stats: false its result depends on the whole batch")
    if len(s.bottom) < 2:
        raise Unconvertible("its bottom has one axis")
    mean, var, factor = (b.astype(np.float32) for b in s.blobs)
    f = factor.reshape(-1)[0]
    scale = np.float32(0 if f == 0 else 1 / f)
    return s.module(
        f"nn.BatchNorm{kind}({c}, eps={_number(p.eps)}, affine=False)",
        {
            "running_mean": mean * scale,
            "running_var": var * scale,
            "num_batches_tracked": np.array(0, np.int64),
        },
    )


def _along(shape: Shape, axis: int, dims: int) -> Shape:
    """The shape with ones behind it, so that its first axis lies on `axis` of `dims`."""
    return (*shape, *[1] * (dims - axis - len(shape)))


def _scale(s: Spot) -> Piece:
    p = s.layer.scale_param
    if len(s.x) == 1:
        shape = _along(s.blobs[0].shape, shapes.axis_of(p.axis, s.bottom), len(s.bottom))
        state = _weight_bias([b.reshape(shape) for b in s.blobs])
        return s.module(_helper("Scale", shape, f"bias={p.bias_term}"), state, "Scale")
    axis = shapes.axis_of(p.axis, s.bottom)
    product = f"{s.x[0]} * {_grown(s, axis)}"
    if not p.bias_term:
        return Piece([product])
    shape = _along(s.blobs[0].shape, axis, len(s.bottom))
    expression = _helper("Bias", shape)
    return Piece([f"{s.me}({product})"], expression, {"bias": s.blobs[0].reshape(shape)}, "Bias")


def _bias(s: Spot) -> Piece:
    axis = shapes.axis_of(s.layer.bias_param.axis, s.bottom)
    if len(s.x) > 1:
        return Piece([f"{s.x[0]} + {_grown(s, axis)}"])
    shape = _along(s.blobs[0].shape, axis, len(s.bottom))
    return s.module(_helper("Bias", shape), {"bias": s.blobs[0].reshape(shape)}, "Bias")


def _helper(name: str, shape: Shape, *rest: str) -> str:
    # A shape of no axes is a number: PyTorch's factory functions want at least one argument.
    return f"{name}({', '.join([*(map(str, shape or (1,))), *rest])})"


def _grown(s: Spot, axis: int) -> str:
    """The second bottom, with axes of 1 behind it where the first one has more."""
    more = len(s.bottom) - axis - len(s.shaped.bottoms[1])
    return f"{s.x[1]}[..., {', '.join(['None'] * more)}]" if more else s.x[1]


def _eltwise(s: Spot) -> Piece:
    p = s.layer.eltwise_param
    if p.operation == pb.EltwiseParameter.PROD:
        return Piece([" * ".join(s.x)])
    if p.operation == pb.EltwiseParameter.MAX:
        out = s.x[0]
        for x in s.x[1:]:
            out = f"torch.maximum({out}, {x})"
        return Piece([out])
    coefficients = list(p.coeff) or [1.0] * len(s.x)
    terms = [x if c == 1 else f"{_number(c)} * {x}" for c, x in zip(coefficients, s.x, strict=True)]
    return Piece([" + ".join(terms).replace("+ -", "- ")])


def _concat(s: Spot) -> Piece:
    axis = concat_axis(s.layer.concat_param, s.bottom)
    return Piece([f"torch.cat([{', '.join(s.x)}], {axis})"])


def _slice(s: Spot) -> Piece:
    axis = slice_axis(s.layer.slice_param, s.bottom)
    if axis == 0:
        raise Unconvertible("it slices the batch")
    calls, start = [], 0
    for top in s.shaped.tops:
        end = start + top[axis]
        calls.append(f"{s.x[0]}[{':, ' * axis}{start}:{end}]")
        start = end
    return Piece(calls)


def _flatten(s: Spot) -> Piece:
    p = s.layer.flatten_param
    start, end = shapes.axis_of(p.axis, s.bottom), shapes.axis_of(p.end_axis, s.bottom)
    return Piece([f"{s.x[0]}.flatten({start}{'' if end == len(s.bottom) - 1 else f', {end}'})"])


def _reshape(s: Spot) -> Piece:
    """Written with the sizes it has, but for the dimension that follows the batch."""
    now, grown = s.shaped.tops[0], s.grown[0]
    moving = [i for i, (a, b) in enumerate(zip(now, grown, strict=True)) if a != b]
    if len(moving) > 1:
        raise Unconvertible("several dimensions of its top depend on the batch")
    dims = [-1 if i in moving else d for i, d in enumerate(now)]
    return Piece([f"{s.x[0]}.reshape({', '.join(map(str, dims))})"])


def _crop(s: Spot) -> Piece:
    top, offsets = s.shaped.tops[0], crop_offsets(s.layer, s.bottom)
    axis = len(s.bottom) - len(offsets)
    if axis == 0:
        raise Unconvertible("it crops the batch")
    cuts = [":"] * axis + [
        f"{at}:{at + size}" for at, size in zip(offsets, top[axis:], strict=True)
    ]
    return Piece([f"{s.x[0]}[{', '.join(cuts)}]"])


def _tile(s: Spot) -> Piece:
    p = s.layer.tile_param
    counts = ["1"] * len(s.bottom)
    counts[shapes.axis_of(p.axis, s.bottom)] = str(p.tiles)
    return Piece([f"{s.x[0]}.repeat({', '.join(counts)})"])


def _reduction(s: Spot) -> Piece:
    p, x = s.layer.reduction_param, s.x[0]
    operation = pb.ReductionParameter.ReductionOp.Name(p.operation)
    dims = f"{tuple(range(shapes.axis_of(p.axis, s.bottom), len(s.bottom)))}"
    out = {
        "SUM": f"{x}.sum({dims})",
        "ASUM": f"{x}.abs().sum({dims})",
        "SUMSQ": f"({x} * {x}).sum({dims})",
        "MEAN": f"{x}.mean({dims})",
    }[operation]
    return Piece([out if p.coeff == 1 else f"{_number(p.coeff)} * {out}"])


def _arg_max(s: Spot) -> Piece:
    p, x = s.layer.argmax_param, s.x[0]
    if p.HasField("axis"):
        axis = shapes.axis_of(p.axis, s.bottom)
        values, places = (f"{x}.topk({p.top_k}, {axis})[{i}]" for i in (0, 1))
        return Piece([values if p.out_max_val else f"{places}.to({x}.dtype)"])
    best = f"{x}.flatten(1).topk({p.top_k}, 1)"
    places = f"{best}[1].to({x}.dtype)"
    behind = ", None" * max(0, len(s.bottom) - 3)
    if p.out_max_val:
        return Piece([f"torch.stack([{places}, {best}[0]], 1)" + (behind and f"[...{behind}]")])
    return Piece([f"{places}[:, None, :{behind}]"])


def _embed(s: Spot) -> Piece:
    p = s.layer.embed_param
    if p.bias_term:
        return s.module(f"Embed({p.input_dim}, {p.num_output})", _weight_bias(s.blobs), "Embed")
    expression = f"nn.Embedding({p.input_dim}, {p.num_output})"
    return Piece([f"{s.me}({s.x[0]}.long())"], expression, {"weight": s.blobs[0]})


def _mvn(s: Spot) -> Piece:
    p = s.layer.mvn_param
    arguments = f"{p.normalize_variance}, {p.across_channels}, {_number(p.eps)}"
    return s.module(f"MVN({arguments})", helper="MVN")


def _power(s: Spot) -> Piece:
    p, out = s.layer.power_param, s.x[0]
    out = out if p.scale == 1 else f"{_number(p.scale)} * {out}"
    out = out if p.shift == 0 else f"{_number(p.shift)} + {out}"
    if p.power == 1:
        return Piece([out])
    base = out if out.isidentifier() else f"({out})"
    return Piece([f"{base} ** {_number(p.power)}"])


def _exp(s: Spot) -> Piece:
    p, x = s.layer.exp_param, s.x[0]
    factor = 1.0 if p.base == -1 else float(np.log(p.base))
    scale, shift = factor * p.scale, factor * p.shift
    out = x if scale == 1 else f"{scale!r} * {x}"
    return Piece([f"torch.exp({out if shift == 0 else f'{out} + {shift!r}'})"])


def _log(s: Spot) -> Piece:
    p, out = s.layer.log_param, s.x[0]
    out = out if p.scale == 1 else f"{_number(p.scale)} * {out}"
    out = f"torch.log({out if p.shift == 0 else f'{out} + {_number(p.shift)}'})"
    return Piece([out if p.base == -1 else f"{out} * {1 / float(np.log(p.base))!r}"])


def _clip(s: Spot) -> Piece:
    p = s.layer.clip_param
    return Piece([f"{s.x[0]}.clamp({_number(p.min)}, {_number(p.max)})"])


def _threshold(s: Spot) -> Piece:
    x = s.x[0]
    return Piece([f"({x} > {_number(s.layer.threshold_param.threshold)}).to({x}.dtype)"])


PIECES: dict[str, Emit] = {
    "AbsVal": lambda s: Piece([f"{s.x[0]}.abs()"]),
    "ArgMax": _arg_max,
    "BatchNorm": _batch_norm,
    "Bias": _bias,
    "BNLL": lambda s: Piece([f"F.softplus({s.x[0]})"]),
    "Clip": _clip,
    "Concat": _concat,
    "Convolution": _convolution,
    "Crop": _crop,
    "Deconvolution": _convolution,
    "Dropout": lambda s: s.module(f"nn.Dropout({_number(s.layer.dropout_param.dropout_ratio)})"),
    "Eltwise": _eltwise,
    "ELU": lambda s: s.module(f"nn.ELU({_number(s.layer.elu_param.alpha)})"),
    "Embed": _embed,
    "Exp": _exp,
    "Flatten": _flatten,
    "InnerProduct": _inner_product,
    "Log": _log,
    "LRN": _lrn,
    "MVN": _mvn,
    "Pooling": _pooling,
    "Power": _power,
    "PReLU": _prelu,
    "Reduction": _reduction,
    "ReLU": _relu,
    "Reshape": _reshape,
    "Scale": _scale,
    "Sigmoid": lambda s: s.module("nn.Sigmoid()"),
    "Silence": lambda s: Piece([]),
    "Slice": _slice,
    "Softmax": lambda s: s.module(f"nn.Softmax({s.layer.softmax_param.axis})"),
    "Split": lambda s: Piece([s.x[0]] * len(s.layer.top)),
    "Swish": lambda s: Piece(
        [f"{s.x[0]} * torch.sigmoid({_number(s.layer.swish_param.beta)} * {s.x[0]})"]
    ),
    "TanH": lambda s: s.module("nn.Tanh()"),
    "Threshold": _threshold,
    "Tile": _tile,
}
