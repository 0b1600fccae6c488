"""Layers, shapes, parameters, multiply-adds and memory of a net."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

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
    """Multiply-adds of a Convolution's or InnerProduct's weights; other layers count as none."""
    if shaped.layer.type not in ("Convolution", "InnerProduct"):
        return 0
    weight = shaped.params[0][0]
    if shaped.layer.type == "Convolution":
        return count(shaped.tops[0]) * count(weight[1:])
    return count(shaped.tops[0]) * (count(weight) // shaped.layer.inner_product_param.num_output)


def training_memory(net: Sequence[LayerShapes]) -> int:
    """Bytes of float32 blobs with their gradients, weights, gradients and momentum."""
    blobs = sum(
        count(t) for s in net for t, name in zip(s.tops, s.layer.top, strict=False)
        if name not in s.layer.bottom  # in place: no blob of its own
    )  # fmt: skip
    params = sum(count(shape) for s in net for shape, _ in s.params)
    return 4 * (2 * blobs + 3 * params)
