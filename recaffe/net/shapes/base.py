"""What every shape rule speaks of."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from recaffe.errors import NetError
from recaffe.proto import caffe_pb2 as pb

Shape = tuple[int, ...]
Params = list[tuple[Shape, pb.FillerParameter]]
Result = tuple[list[Shape], Params]
Rule = Callable[[pb.LayerParameter, list[Shape]], Result]


@dataclass
class LayerShapes:
    """A layer with the shapes of what it reads, makes and learns (`params` with their fillers)."""

    layer: pb.LayerParameter
    bottoms: list[Shape]
    tops: list[Shape]
    params: Params


def count(shape: Sequence[int]) -> int:
    """Number of values."""
    return math.prod(shape)


def axis_of(axis: int, shape: Shape) -> int:
    """A canonical axis; raises `NetError` if it is out of range."""
    if not -len(shape) <= axis < len(shape):
        raise NetError(f"axis {axis} is out of range for a bottom of shape {shape}.")
    return axis % len(shape)


def four(shape: Shape) -> Shape:
    """The shape itself; raises `NetError` unless it is N×C×H×W."""
    if len(shape) != 4:
        raise NetError(f"it wants a bottom of N×C×H×W, not {shape}.")
    return shape


def legacy(shape: Shape) -> Shape:
    """N×C×H×W with ones for the axes that a blob of fewer lacks, as Caffe's old accessors see it."""
    if len(shape) > 4:
        raise NetError(f"it wants a bottom of at most four axes, not {shape}.")
    return (*shape, *(1,) * (4 - len(shape)))


def weight_and_bias(
    weight: Shape, outputs: int, bias_term: bool,
    fillers: tuple[pb.FillerParameter, pb.FillerParameter],
) -> Params:  # fmt: skip
    """The two parameters of a layer that multiplies and, with `bias_term`, adds."""
    if outputs <= 0:
        raise NetError("num_output is missing or 0.")
    params: Params = [(weight, fillers[0])]
    return [*params, ((outputs,), fillers[1])] if bias_term else params


def same(layer: pb.LayerParameter, bottoms: list[Shape]) -> Result:
    """One top like the first bottom."""
    return [bottoms[0]], []
