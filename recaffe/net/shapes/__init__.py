"""Shapes of blobs and parameters, by Caffe's own rules, without building anything.

Source: the `LayerSetUp` and `Reshape` of each layer in BVLC Caffe 1.0.
"""

from __future__ import annotations

from collections.abc import Sequence

from recaffe.errors import NetError
from recaffe.net import wiring
from recaffe.net.shapes import common, loss, neuron, vision
from recaffe.net.shapes.base import LayerShapes, Rule, Shape, axis_of, count, same
from recaffe.net.shapes.windows import Window, conv_window, pool_window
from recaffe.proto import caffe_pb2 as pb

LARGEST = 2**42  # bytes of one blob: 4 TiB

__all__ = [
    "LayerShapes", "Shape", "Window", "axis_of", "conv_window", "count", "pool_window",
    "takes_any_batch", "tops_of", "walk",
]  # fmt: skip


def walk(layers: Sequence[pb.LayerParameter], inputs: dict[str, Shape]) -> list[LayerShapes]:
    """Shapes of a net of one phase; `inputs` gives those of the blobs that data layers make.

    Raises `NetError` for layers that don't go together (see `wiring.check`), a type that the torch
    engine doesn't have, or a shape that doesn't fit.
    """
    for layer in layers:
        given = not layer.bottom and all(name in inputs for name in layer.top)
        if layer.type not in _RULES and not given:
            raise NetError(wiring.unsupported(layer))
    wiring.check(layers, inputs)
    blobs: dict[str, Shape] = dict(inputs)
    out = []
    for layer in layers:
        bottoms = [blobs[name] for name in layer.bottom]
        if layer.type in _RULES:
            try:
                tops, params = _RULES[layer.type](layer, bottoms)
            except NetError as error:
                raise NetError(f"Layer {layer.name!r} ({layer.type}): {error}") from error
            except (IndexError, ZeroDivisionError) as error:
                raise NetError(
                    f"Layer {layer.name!r} ({layer.type}): its bottoms are {bottoms}, which don't fit."
                ) from error
        else:
            tops, params = [inputs[name] for name in layer.top], []
        if any(d <= 0 for shape in tops for d in shape):
            raise NetError(
                f"Layer {layer.name!r} ({layer.type}) would make the empty shape {tops} from "
                f"{bottoms}: the pictures are too small for this net. Give it larger ones, or a "
                "larger crop_size."
            )
        _check_size(layer, [*tops, *(shape for shape, _ in params)])
        if len(tops) != len(layer.top):
            raise NetError(
                f"Layer {layer.name!r} ({layer.type}) has {len(layer.top)} tops; it makes {len(tops)}."
            )
        if len(layer.param) > len(params):
            raise NetError(
                f"Layer {layer.name!r} ({layer.type}) has {len(layer.param)} `param`, but learns "
                f"{len(params)} blobs. Remove what is too many."
            )
        for name, shape in zip(layer.top, tops, strict=False):
            blobs[name] = shape
        out.append(LayerShapes(layer, bottoms, tops, params))
    return out


def takes_any_batch(walked: Sequence[LayerShapes], batch: int) -> bool:
    """Whether a net that was walked with `batch` records computes fewer just so.

    A Reshape that names the number of records doesn't: it would make other shapes of them.
    """
    inputs = {
        top: (1, *shape[1:]) if shape and shape[0] == batch else shape
        for s in walked
        if not s.layer.bottom
        for top, shape in zip(s.layer.top, s.tops, strict=True)
    }
    try:
        single = walk([s.layer for s in walked], inputs)
    except NetError:
        return False
    learned = [[shape for shape, _ in s.params] for s in walked]
    return learned == [[shape for shape, _ in s.params] for s in single]


def _check_size(layer: pb.LayerParameter, found: Sequence[Shape]) -> None:
    for shape in found:
        if 4 * count(shape) > LARGEST:
            raise NetError(
                f"Layer {layer.name!r} ({layer.type}) wants a blob of {'×'.join(map(str, shape))} "
                f"values, {4 * count(shape) / 2**30:,.0f} GiB. No machine has that much memory: "
                "correct its num_output, shape or batch_size."
            )


def tops_of(layer: pb.LayerParameter, bottoms: list[Shape]) -> list[Shape]:
    """Shapes of one layer's tops."""
    return _RULES[layer.type](layer, bottoms)[0]


_RULES: dict[str, Rule] = {
    **dict.fromkeys(
        ("AbsVal", "BNLL", "Clip", "ELU", "ReLU", "Sigmoid", "Swish", "TanH", "Threshold"),
        same,
    ),
    "Accuracy": loss.accuracy,
    "ArgMax": common.argmax,
    "BatchNorm": common.batch_norm,
    "BatchReindex": common.batch_reindex,
    "Bias": common.bias,
    "Concat": common.concat,
    "ContrastiveLoss": loss.contrastive_loss,
    "Convolution": vision.convolution,
    "Crop": vision.crop,
    "Deconvolution": vision.deconvolution,
    "Dropout": neuron.dropout,
    "Eltwise": common.eltwise,
    "Embed": common.embed,
    "EuclideanLoss": loss.pair_loss,
    "Exp": neuron.exp,
    "Filter": common.filtered,
    "Flatten": common.flatten,
    "HingeLoss": loss.label_loss,
    "Im2col": vision.im2col,
    "InfogainLoss": loss.infogain_loss,
    "InnerProduct": common.inner_product,
    "Input": common.inputs,
    "Log": neuron.log,
    "LRN": vision.lrn,
    "MultinomialLogisticLoss": loss.label_loss,
    "MVN": common.mvn,
    "Parameter": common.parameter,
    "Pooling": vision.pooling,
    "Power": neuron.power,
    "PReLU": common.prelu,
    "Reduction": common.reduction,
    "Reshape": common.reshape,
    "Scale": common.scale,
    "SigmoidCrossEntropyLoss": loss.pair_loss,
    "Silence": common.nothing,
    "Slice": common.slices,
    "Softmax": loss.softmax,
    "SoftmaxWithLoss": loss.softmax_loss,
    "Split": common.copies,
    "Tile": common.tile,
}  # fmt: skip
