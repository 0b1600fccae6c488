"""For each layer type a random net around it: shapes, settings, values with and without ties."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from hypothesis import assume

from tests.parity.draw import Case, Draw, layer
from tests.parity.loss_cases import LOSS_CASES

# A layer whose bottom Caffe won't differentiate by force stands between something that learns and a
# loss that all its values count in.
BEFORE = layer("Scale", "scale_param { bias_term: true }", ["x"], ["s"], "before")


def _loss_after(*tops: str) -> str:
    return "".join(
        layer("Power", "power_param { power: 2 shift: 0.5 }", [t], [f"{t}2"], f"{t}2")
        + layer("Reduction", "loss_weight: 1", [f"{t}2"], [f"{t}_loss"], f"{t}_loss")
        for t in tops
    )


def _neuron(
    kind: str, settings: Callable[[Draw], str], in_place: bool = True
) -> Callable[[Draw], Case]:
    def case(d: Draw) -> Case:
        shape = d.any_shape()
        top = "x" if in_place and d.bool() else "y"
        return Case(layer(kind, settings(d), tops=[top]), {"x": d.either(shape)})

    return case


def _window(d: Draw, axes: int, size: tuple[int, ...], dilate: bool = True) -> str:
    """Kernel, stride, pad and dilation of a convolution that fits."""
    dilation = d.int(1, 2) if dilate else 1
    kernel = [d.int(1, max(1, min(4, (s - 1) // dilation + 1))) for s in size]
    words = [f"dilation: {dilation}"]
    if axes == 2 and d.bool():
        words += [f"kernel_h: {kernel[0]} kernel_w: {kernel[1]}"]
        words += [f"stride_h: {d.int(1, 3)} stride_w: {d.int(1, 3)}"]
        words += [f"pad_h: {d.int(0, 2)} pad_w: {d.int(0, 2)}"] if d.bool() else []
    elif d.bool():
        words += [f"kernel_size: {min(kernel)} stride: {d.int(1, 3)} pad: {d.int(0, 2)}"]
    else:
        words += [f"kernel_size: {k} stride: {d.int(1, 3)} pad: {d.int(0, 2)}" for k in kernel]
    return " ".join(words)


def _convolution(kind: str) -> Callable[[Draw], Case]:
    def case(d: Draw) -> Case:
        axes = d.of(2, 2, 2, 1, 3)
        group = d.of(1, 1, 2, 3)
        size = d.shape(*[9 if axes < 3 else 5] * axes, least=4)
        shape = (d.int(1, 3), group * d.int(1, 3), *size)
        settings = f"num_output: {group * d.int(1, 4)} group: {group} {_window(d, axes, size)} "
        settings += d.some(bias_term=False)
        if d.bool():  # the same, with another axis for pictures
            shape, settings = (2, *shape), f"{settings} axis: {d.of(2, -axes - 1)}"
        names = ["x", "x2"][: d.int(1, 2)]
        blobs = {n: d.normal(shape) for n in names}
        made = layer(kind, f"convolution_param {{ {settings} }}", names, [f"y{n}" for n in names])
        return Case(made, blobs)

    return case


def deconvolution(d: Draw) -> Case:
    case = _convolution("Deconvolution")(d)
    # A pad can leave nothing: kernel 1, pad 2.
    assume(
        not any(f"pad: {p}" in case.layers for p in (1, 2)) or "kernel_size: 1 " not in case.layers
    )
    assume("kernel_h: 1 " not in case.layers and "kernel_w: 1 " not in case.layers)
    return case


def pooling(d: Draw) -> Case:
    shape = d.picture(least=2)
    if d.bool() and d.bool():
        kind = d.of("MAX", "AVE")
        return Case(
            layer("Pooling", f"pooling_param {{ pool: {kind} global_pooling: true }}"),
            {"x": d.either(shape)},
        )
    kernel = [d.int(1, min(4, s)) for s in shape[2:]]
    pad = [d.int(0, k - 1) if d.bool() else 0 for k in kernel]
    stride = [d.int(1, 3) for _ in kernel]
    mode = d.of("CEIL", "FLOOR")
    if mode == "CEIL" and not any(pad):  # a window outside the picture: Caffe reads other memory
        for s, k, step in zip(shape[2:], kernel, stride, strict=True):
            assume(-(-(s - k) // step) * step < s)
    settings = (
        f"kernel_h: {kernel[0]} kernel_w: {kernel[1]} stride_h: {stride[0]} stride_w: {stride[1]} "
        f"pad_h: {pad[0]} pad_w: {pad[1]} round_mode: {mode}"
    )
    if d.bool():
        return Case(
            layer("Pooling", f"pooling_param {{ pool: AVE {settings} }}"), {"x": d.normal(shape)}
        )
    tops = ["y", "places"][: d.int(1, 2)]
    return Case(
        layer("Pooling", f"pooling_param {{ {settings} }}", tops=tops), {"x": d.either(shape)}
    )


def im2col(d: Draw) -> Case:
    shape = d.picture(least=4)
    return Case(
        layer("Im2col", f"convolution_param {{ {_window(d, 2, shape[2:])} }}"),
        {"x": d.normal(shape)},
    )


def lrn(d: Draw) -> Case:
    settings = d.some(local_size=d.of(1, 3, 7), alpha=d.of(0.01, 1.0), beta=d.of(0.5, 1.0), k=2.0)
    region = d.of("ACROSS_CHANNELS", "WITHIN_CHANNEL")
    return Case(
        layer("LRN", f"lrn_param {{ norm_region: {region} {settings} }}"),
        {"x": d.normal(d.picture())},
    )


def crop(d: Draw) -> Case:
    shape = d.any_shape((2, 4))
    axis = d.int(0, len(shape) - 1)
    small = tuple(d.int(1, s) if i >= axis else s for i, s in enumerate(shape))
    offsets = [d.int(0, a - b) for a, b in zip(shape[axis:], small[axis:], strict=True)]
    one = min(offsets)
    said = f"offset: {one}" if d.bool() else " ".join(f"offset: {o}" for o in offsets)
    settings = f"crop_param {{ axis: {d.of(axis, axis - len(shape))} {said} }}"
    return Case(
        layer("Crop", settings, ["x", "like"]), {"x": d.normal(shape), "like": d.normal(small)}
    )


def inner_product(d: Draw) -> Case:
    shape = d.any_shape((2, 4))
    axis = d.of(*range(1, len(shape)), *range(1 - len(shape), 0))
    settings = f"num_output: {d.int(1, 6)} axis: {axis} {d.some(bias_term=False, transpose=True)}"
    return Case(
        layer("InnerProduct", f"inner_product_param {{ {settings} }}"), {"x": d.normal(shape)}
    )


def embed(d: Draw) -> Case:
    size = d.int(1, 9)
    settings = f"input_dim: {size} num_output: {d.int(1, 6)} {d.some(bias_term=False)}"
    made = layer("Embed", f"embed_param {{ {settings} }}") + _loss_after("y")
    return Case(
        made, {"x": d.labels(d.any_shape((1, 3)), size)}, gradients=("y",), force_backward=False
    )


def batch_norm(d: Draw) -> Case:
    shape = (d.int(2, 3), d.int(1, 6), *d.shape(*[6] * d.of(2, 2, 1), least=2))
    settings = d.some(use_global_stats=d.bool(), moving_average_fraction=0.9, eps=0.01)
    c = shape[1]
    factor = np.array([d.of(0.0, 1.0, 2.5)], np.float32)
    params = {"layer": [d.normal((c,)), d.positive((c,)), factor]}
    top = d.of("x", "y")
    # With statistics over few values, 1/σ multiplies the last digits' noise.
    blobs = {"x": d.normal(shape) + 3 * d.normal((c, *[1] * (len(shape) - 2)))}
    return Case(
        layer("BatchNorm", f"batch_norm_param {{ {settings} }}", tops=[top]),
        blobs, d.of("TRAIN", "TEST"), 1 if top == "x" else d.int(1, 3), params,
    )  # fmt: skip


def _along(kind: str) -> Callable[[Draw], Case]:
    """Scale and Bias."""

    def case(d: Draw) -> Case:
        shape = d.any_shape((1, 4))
        axis = d.int(0, len(shape) - 1)
        num = d.int(0, len(shape) - axis)
        where = f"axis: {d.of(axis, axis - len(shape))}"
        extra = d.some(bias_term=True) if kind == "Scale" else ""
        name = f"{kind.lower()}_param"
        if d.bool():
            blobs = {"x": d.normal(shape), "f": d.normal(shape[axis : axis + num])}
            return Case(layer(kind, f"{name} {{ {where} {extra} }}", ["x", "f"]), blobs)
        num = d.of(num, -1)
        made = layer(kind, f"{name} {{ {where} num_axes: {num} {extra} }}", tops=[d.of("x", "y")])
        return Case(made, {"x": d.normal(shape)})

    return case


def mvn(d: Draw) -> Case:
    settings = d.some(normalize_variance=False, across_channels=True, eps=0.1)
    return Case(
        layer("MVN", f"mvn_param {{ {settings} }}"), {"x": d.normal(d.picture(least=2)) + 1}
    )


def eltwise(d: Draw) -> Case:
    names = [f"x{i}" for i in range(d.int(2, 4))]
    operation = d.of("PROD", "SUM", "MAX")
    settings = f"operation: {operation} {d.some(stable_prod_grad=True)}"
    if operation == "SUM" and d.bool():
        settings += "".join(f" coeff: {d.of(1.0, -1.0, 0.5)}" for _ in names)
    shape = d.any_shape()
    values = d.normal if operation == "PROD" else d.either
    return Case(
        layer("Eltwise", f"eltwise_param {{ {settings} }}", names),
        {n: values(shape) for n in names},
    )


def concat(d: Draw) -> Case:
    shape = d.any_shape()
    axis = d.int(0, len(shape) - 1)
    names = [f"x{i}" for i in range(d.int(2, 4))]
    said = f"concat_dim: {axis}" if d.bool() else f"axis: {d.of(axis, axis - len(shape))}"
    blobs = {n: d.normal((*shape[:axis], d.int(1, 4), *shape[axis + 1 :])) for n in names}
    return Case(layer("Concat", f"concat_param {{ {said} }}", names), blobs)


def slices(d: Draw) -> Case:
    shape = list(d.any_shape())
    axis = d.int(0, len(shape) - 1)
    tops = [f"y{i}" for i in range(d.int(2, 4))]
    sizes = [d.int(1, 3)] * len(tops) if d.bool() else [d.int(1, 3) for _ in tops]
    shape[axis] = sum(sizes)
    said = f"slice_dim: {axis}" if d.bool() else f"axis: {d.of(axis, axis - len(shape))}"
    if len(set(sizes)) > 1 or d.bool():
        said += "".join(f" slice_point: {sum(sizes[: i + 1])}" for i in range(len(tops) - 1))
    return Case(layer("Slice", f"slice_param {{ {said} }}", tops=tops), {"x": d.normal(shape)})


def flatten(d: Draw) -> Case:
    shape = d.any_shape()
    start = d.int(0, len(shape) - 1)
    end = d.int(start, len(shape) - 1)
    settings = f"flatten_param {{ axis: {start} end_axis: {d.of(end, end - len(shape))} }}"
    return Case(layer("Flatten", settings), {"x": d.normal(shape)})


def reshape(d: Draw) -> Case:
    shape = d.any_shape((2, 4))
    start = d.int(0, len(shape) - 1)
    end = d.int(start + 1, len(shape))
    inside = shape[start:end]
    dims = d.of(
        [-1], [0, -1], [1, -1], [-1, 1], [int(np.prod(inside))], [0] * len(inside), list(inside)
    )
    num = -1 if end == len(shape) and d.bool() else end - start
    axis = d.of(start, start - len(shape) - 1)
    said = " ".join(f"dim: {v}" for v in dims)
    settings = f"reshape_param {{ axis: {axis} num_axes: {num} shape {{ {said} }} }}"
    return Case(layer("Reshape", settings), {"x": d.normal(shape)})


def split(d: Draw) -> Case:
    tops = [f"y{i}" for i in range(d.int(1, 4))]
    return Case(layer("Split", tops=tops), {"x": d.normal(d.any_shape())})


def reduction(d: Draw) -> Case:
    shape = d.any_shape()
    axis = d.of(*range(-len(shape), len(shape)))
    operation = d.of("SUM", "ASUM", "SUMSQ", "MEAN")
    settings = f"reduction_param {{ operation: {operation} axis: {axis} {d.some(coeff=-0.5)} }}"
    # Sums near 0 of terms that aren't would compare the order of summation.
    return Case(layer("Reduction", settings), {"x": d.either(shape) + 1})


def tile(d: Draw) -> Case:
    shape = d.any_shape()
    axis = d.of(*range(-len(shape), len(shape)))
    return Case(
        layer("Tile", f"tile_param {{ axis: {axis} tiles: {d.int(1, 4)} }}"), {"x": d.normal(shape)}
    )


def argmax(d: Draw) -> Case:
    shape = d.any_shape((1, 5), 4)
    axis = d.of(*range(-len(shape), len(shape)), None)
    most = int(np.prod(shape[1:])) if axis is None else shape[axis]
    said = "" if axis is None else f"axis: {axis}"
    settings = f"argmax_param {{ top_k: {d.int(1, most)} {said} {d.some(out_max_val=True)} }}"
    return Case(layer("ArgMax", settings), {"x": d.either(shape)}, backward=False)


def batch_reindex(d: Draw) -> Case:
    shape = d.any_shape((2, 4))
    made = BEFORE.replace("bias_term", "axis: 0 num_axes: 1 bias_term")
    made += layer("BatchReindex", "", ["s", "index"]) + _loss_after("y")
    blobs = {"x": d.normal(shape), "index": d.labels((d.int(1, 7),), shape[0])}
    return Case(made, blobs, gradients=("s", "y"), force_backward=False)


def filtered(d: Draw) -> Case:
    shape = d.any_shape((2, 4))
    selector = d.labels((shape[0], 1), 2)
    selector[d.int(0, shape[0] - 1)] = 1  # Caffe can't go on with nothing
    made = layer(
        "Scale", "scale_param { axis: 0 num_axes: 1 bias_term: true }", ["x"], ["s"], "before"
    )
    made += layer("Filter", "", ["s", "chosen"]) + _loss_after("y")
    return Case(
        made, {"x": d.normal(shape), "chosen": selector}, gradients=("s", "y"), force_backward=False
    )


def silence(d: Draw) -> Case:
    return Case(layer("Silence", tops=[]), {"x": d.normal(d.any_shape())})


def parameter(d: Draw) -> Case:
    dims = " ".join(f"dim: {s}" for s in d.any_shape())
    made = layer("Parameter", f"parameter_param {{ shape {{ {dims} }} }}", [])
    return Case(made, {})


def power(d: Draw) -> Case:
    exponent, scale, shift = d.of(0, 1, 2, 3, 0.5, -1, 0.75), d.of(0, 1, 0.5), d.of(0, 0.25)
    assume(exponent * scale or shift or exponent >= 0)
    settings = f"power_param {{ power: {exponent} scale: {scale} shift: {shift} }}"
    shape = d.any_shape()
    whole = exponent in (0, 1, 2, 3)
    return Case(layer("Power", settings), {"x": d.normal(shape) if whole else d.positive(shape)})


def log(d: Draw) -> Case:
    settings = f"log_param {{ {d.some(base=d.of(2.0, 10.0), scale=0.5, shift=0.25)} }}"
    return Case(layer("Log", settings), {"x": d.positive(d.any_shape())})


def prelu(d: Draw) -> Case:
    settings = f"prelu_param {{ {d.some(channel_shared=True)} }}"
    shape = d.any_shape((2, 4))
    return Case(layer("PReLU", settings, tops=[d.of("x", "y")]), {"x": d.either(shape)})


def dropout(d: Draw) -> Case:
    settings = f"dropout_param {{ {d.some(dropout_ratio=0.3)} }}"
    made = layer("Dropout", settings, tops=[d.of("x", "y")])
    return Case(made, {"x": d.normal(d.any_shape())}, "TEST")


def threshold(d: Draw) -> Case:
    settings = f"threshold_param {{ {d.some(threshold=0.5)} }}"
    return Case(layer("Threshold", settings), {"x": d.either(d.any_shape())}, backward=False)


def _none(d: Draw) -> str:
    return ""


CASES: dict[str, Callable[[Draw], Case]] = {
    **LOSS_CASES,
    "AbsVal": _neuron("AbsVal", _none, in_place=False),
    "ArgMax": argmax,
    "BatchNorm": batch_norm,
    "BatchReindex": batch_reindex,
    "Bias": _along("Bias"),
    "BNLL": _neuron("BNLL", _none, in_place=False),  # Caffe's backward wants the bottom
    "Clip": _neuron("Clip", lambda d: "clip_param { min: -0.5 max: 1 }", in_place=False),
    "Concat": concat,
    "Convolution": _convolution("Convolution"),
    "Crop": crop,
    "Deconvolution": deconvolution,
    "Dropout": dropout,
    "Eltwise": eltwise,
    "ELU": _neuron("ELU", lambda d: f"elu_param {{ {d.some(alpha=0.3)} }}", in_place=False),
    "Embed": embed,
    "Exp": _neuron(
        "Exp", lambda d: f"exp_param {{ {d.some(base=d.of(2.0, 10.0), scale=0.5, shift=0.25)} }}"
    ),
    "Filter": filtered,
    "Flatten": flatten,
    "Im2col": im2col,
    "InnerProduct": inner_product,
    "Log": log,
    "LRN": lrn,
    "MVN": mvn,
    "Parameter": parameter,
    "Pooling": pooling,
    "Power": power,
    "PReLU": prelu,
    "Reduction": reduction,
    "ReLU": _neuron("ReLU", lambda d: f"relu_param {{ {d.some(negative_slope=0.1)} }}"),
    "Reshape": reshape,
    "Scale": _along("Scale"),
    "Sigmoid": _neuron("Sigmoid", _none),
    "Silence": silence,
    "Slice": slices,
    "Split": split,
    "Swish": _neuron("Swish", lambda d: f"swish_param {{ {d.some(beta=0.5)} }}", in_place=False),
    "TanH": _neuron("TanH", _none),
    "Threshold": threshold,
    "Tile": tile,
}
