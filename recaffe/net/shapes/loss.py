"""Losses and measures: scalars, and what they may make besides."""

from __future__ import annotations

from recaffe.errors import NetError
from recaffe.net.shapes.base import Result, Shape, axis_of, count, legacy
from recaffe.proto import caffe_pb2 as pb


def _first_axes(bottoms: list[Shape]) -> None:
    first = {b[:1] for b in bottoms[:2]}
    if len(first) > 1 or () in first:
        raise NetError(f"scores {bottoms[0]} and labels {bottoms[1]} differ in their number.")


def _one_label_each(bottoms: list[Shape], axis: int) -> int:
    """The canonical axis of the classes; raises `NetError` unless each score has its label."""
    scores, labels = bottoms[:2]
    axis = axis_of(axis, scores)
    if count(labels) != count(scores[:axis]) * count(scores[axis + 1 :]):
        raise NetError(
            f"labels {labels} don't fit scores {scores}: it wants one label for each vector of "
            f"{scores[axis]} scores along axis {axis}."
        )
    return axis


def softmax(layer: pb.LayerParameter, bottoms: list[Shape]) -> Result:
    """Like its bottom."""
    axis_of(layer.softmax_param.axis, bottoms[0])
    return [bottoms[0]], []


def softmax_loss(layer: pb.LayerParameter, bottoms: list[Shape]) -> Result:
    """The loss, and the probabilities as a second top."""
    _first_axes(bottoms)
    _one_label_each(bottoms, layer.softmax_param.axis)
    return [(), bottoms[0]][: max(1, len(layer.top))], []


def infogain_loss(layer: pb.LayerParameter, bottoms: list[Shape]) -> Result:
    """The loss, and the probabilities as a second top. H is labels × labels."""
    _first_axes(bottoms)
    axis = _one_label_each(bottoms, layer.infogain_loss_param.axis)
    classes = bottoms[0][axis]
    if layer.loss_param.HasField("normalize"):
        raise NetError("InfogainLoss has no `normalize`; use `normalization`.")
    if len(bottoms) > 2 and count(bottoms[2]) != classes**2:
        raise NetError(f"its matrix must have {classes}×{classes} values, not {bottoms[2]}.")
    if len(bottoms) < 3 and not layer.infogain_loss_param.source:
        raise NetError("name its matrix: infogain_loss_param { source: FILE }, or a third bottom.")
    return [(), bottoms[0]][: max(1, len(layer.top))], []


def pair_loss(layer: pb.LayerParameter, bottoms: list[Shape]) -> Result:
    """A loss on two bottoms with equally many values."""
    _first_axes(bottoms)
    if count(bottoms[0]) != count(bottoms[1]):
        raise NetError(f"bottoms {bottoms[0]} and {bottoms[1]} must have equally many values.")
    return [()], []


def label_loss(layer: pb.LayerParameter, bottoms: list[Shape]) -> Result:
    """A loss on one label for each picture."""
    _first_axes(bottoms)
    if count(bottoms[1][1:]) != 1:
        raise NetError(f"it wants one label for each picture, not {bottoms[1]}.")
    return [()], []


def contrastive_loss(layer: pb.LayerParameter, bottoms: list[Shape]) -> Result:
    """A loss on pairs of vectors, and whether they are alike."""
    _first_axes(bottoms)
    a, b, same = (legacy(shape) for shape in bottoms)
    if a != b or count(a[2:]) != 1 or same != (a[0], 1, 1, 1):
        raise NetError(f"it wants two bottoms N×C and one of N, not {bottoms}.")
    return [()], []


def accuracy(layer: pb.LayerParameter, bottoms: list[Shape]) -> Result:
    """The share of hits, and that of each class as a second top."""
    axis = _one_label_each(bottoms, layer.accuracy_param.axis)
    classes = bottoms[0][axis]
    if layer.accuracy_param.top_k > classes:
        raise NetError(f"top_k {layer.accuracy_param.top_k} is more than the {classes} classes.")
    return [(), (classes,)][: max(1, len(layer.top))], []
