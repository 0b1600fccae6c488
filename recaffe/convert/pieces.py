"""What each layer type is in plain PyTorch, as source text and state.

A layer that has an exact module of
torch.nn becomes one, under its own name; the rest are expressions, or one of the few helper classes
that are written into the file that needs them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from recaffe.net.shapes import LayerShapes, Shape
from recaffe.proto import caffe_pb2 as pb


class Unconvertible(Exception):
    """Why a layer has no counterpart; the caller names the layer."""


@dataclass
class Piece:
    """A layer in PyTorch.

    `module` is the expression of its attribute ("" if it has none), `calls` one expression a top in
    terms of the bottoms, `state` its attribute's parameters and buffers, `helper` the class that
    the file must hold.
    """

    calls: list[str]
    module: str = ""
    state: dict[str, np.ndarray] = field(default_factory=dict)
    helper: str = ""


@dataclass
class Spot:
    """A layer where it stands: its shapes and blobs, the names of its bottoms and of its attribute.

    `grown` holds the tops' shapes when the batch is one larger, which tells the dimensions that
    follow the batch.
    """

    shaped: LayerShapes
    blobs: Sequence[np.ndarray]
    x: list[str]
    me: str
    grown: list[Shape]

    @property
    def layer(self) -> pb.LayerParameter:
        return self.shaped.layer

    @property
    def bottom(self) -> Shape:
        return self.shaped.bottoms[0]

    def module(
        self, expression: str, state: dict[str, np.ndarray] | None = None, helper: str = ""
    ) -> Piece:
        """A piece that calls its attribute on each bottom."""
        return Piece([f"{self.me}({x})" for x in self.x], expression, state or {}, helper)


HELPERS = {
    "Scale": '''class Scale(nn.Module):
    """x × weight + bias, along the axes where `shape` isn't 1."""

    def __init__(self, *shape, bias):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(shape))
        self.bias = nn.Parameter(torch.zeros(shape)) if bias else None

    def forward(self, x):
        return x * self.weight if self.bias is None else x * self.weight + self.bias
''',
    "Bias": '''class Bias(nn.Module):
    """x + bias, along the axes where `shape` isn't 1."""

    def __init__(self, *shape):
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(shape))

    def forward(self, x):
        return x + self.bias
''',
    "Embed": '''class Embed(nn.Module):
    """Rows of a table by their numbers, and a bias."""

    def __init__(self, inputs, outputs):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(inputs, outputs))
        self.bias = nn.Parameter(torch.zeros(outputs))

    def forward(self, x):
        return F.embedding(x.long(), self.weight) + self.bias
''',
    "MVN": '''class MVN(nn.Module):
    """Zero mean, and a deviation of 1 if `variance`, over each picture or each of its channels."""

    def __init__(self, variance, across, eps):
        super().__init__()
        self.variance, self.first, self.eps = variance, 1 if across else 2, eps

    def forward(self, x):
        dims = tuple(range(self.first, x.dim()))
        x = x - x.mean(dims, keepdim=True)
        return x / ((x * x).mean(dims, keepdim=True).sqrt() + self.eps) if self.variance else x
''',
}
