"""Layers, shapes, parameters, multiply-adds and memory of a net."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from recaffe.net.graph import DATA
from recaffe.net.shapes import LayerShapes, count


@dataclass(frozen=True)
class LayerSummary:
    """One layer: output shape (of the first top), learned values, multiply-adds a forward pass."""

    name: str
    type: str
    top: str
    params: int
    macs: int


def summary(net: Sequence[LayerShapes]) -> list[LayerSummary]:
    """A row for each layer; shapes include the batch."""
    return [
        LayerSummary(
            s.layer.name,
            s.layer.type,
            "×".join(map(str, s.tops[0])) if s.tops else "",
            sum(count(shape) for shape, _ in s.params),
            macs(s),
        )
        for s in net
    ]


def macs(shaped: LayerShapes) -> int:
    """Multiply-adds of a layer's weights; what only adds, selects or has no weights counts as none.

    BatchNorm, Scale and PReLU multiply each value once.
    """
    layer = shaped.layer
    if layer.type in ("BatchNorm", "PReLU", "Scale"):
        return count(shaped.tops[0])
    if layer.type == "Convolution":
        return sum(map(count, shaped.tops)) * count(shaped.params[0][0][1:])
    if layer.type == "Deconvolution":
        return sum(map(count, shaped.bottoms)) * count(shaped.params[0][0][1:])
    if layer.type == "InnerProduct":
        outputs = layer.inner_product_param.num_output
        return count(shaped.tops[0]) * (count(shaped.params[0][0]) // outputs)
    return 0


@dataclass(frozen=True)
class Memory:
    """Bytes in float32 that training holds. `momentum` is SGD's; other solvers keep up to twice
    as much."""

    activations: int
    gradients: int
    weights: int
    weight_gradients: int
    momentum: int

    @property
    def total(self) -> int:
        """All of it."""
        return sum((self.activations, self.gradients, self.weights, self.weight_gradients, self.momentum))  # fmt: skip


def own_blobs(shaped: LayerShapes) -> int:
    """Values in the tops that a layer makes; one that works in place makes none."""
    tops = zip(shaped.tops, shaped.layer.top, strict=False)
    return sum(count(shape) for shape, name in tops if name not in shaped.layer.bottom)


def parameters(net: Sequence[LayerShapes]) -> int:
    """Learned values, those that layers share by name counted once."""
    seen: set[str] = set()
    total = 0
    for s in net:
        for i, (shape, _) in enumerate(s.params):
            name = s.layer.param[i].name if i < len(s.layer.param) else ""
            if not name or name not in seen:
                total += count(shape)
            seen.add(name)
    return total


def memory(net: Sequence[LayerShapes]) -> Memory:
    """What training holds; pictures and labels have no gradients."""
    params = 4 * parameters(net)
    blobs = 4 * sum(own_blobs(s) for s in net)
    data = 4 * sum(own_blobs(s) for s in net if s.layer.type in DATA)
    return Memory(blobs, blobs - data, params, params, params)


def training_memory(net: Sequence[LayerShapes]) -> int:
    """Bytes of float32 blobs with their gradients, weights, gradients and momentum."""
    return memory(net).total
