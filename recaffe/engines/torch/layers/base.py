"""What every layer's function takes and gives."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from recaffe.net.shapes import axis_of, count
from recaffe.proto import caffe_pb2 as pb


@dataclass
class Context:
    """What a forward pass knows besides its blobs.

    `in_place`: the bottom may be overwritten. `rank` and `world`: the bottoms are part `rank` of
    `world` equal parts of a batch.
    """

    training: bool
    in_place: bool = False
    rank: int = 0
    world: int = 1


Forward = Callable[[pb.LayerParameter, list[Tensor], Sequence[Tensor], Context], list[Tensor]]


def wide(x: Tensor) -> Tensor:
    """At least float32: where sums, exponentials and quotients need it."""
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x


def along(values: Tensor, like: Tensor, axis: int) -> Tensor:
    """`values` shaped so that its first axis lies on `axis` of `like`."""
    if values.dim() == 0:
        return values
    axis = axis % like.dim()
    return values.reshape(
        [1] * axis + list(values.shape) + [1] * (like.dim() - axis - values.dim())
    )


def by_class(x: Tensor, axis: int) -> Tensor:
    """A blob as outer × classes × inner, where `axis` holds the classes."""
    axis = axis_of(axis, shape(x))
    return x.reshape(count(x.shape[:axis]), x.shape[axis], count(x.shape[axis + 1 :]))


def shape(x: Tensor) -> tuple[int, ...]:
    """A blob's shape."""
    return tuple(x.shape)
