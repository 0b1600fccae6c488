"""Values of a state dict → blobs of a net's layers, by a table of names."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from recaffe.errors import WeightsError
from recaffe.net.shapes import LayerShapes, Shape

State = Mapping[str, np.ndarray]
Layers = list[tuple[str, str, list[np.ndarray]]]  # name, type, blobs

_LISTED = 4
# What a state dict calls a layer's blobs, in Caffe's order. BatchNorm's third blob is the factor
# that its statistics are to be divided by.
_STATISTICS = ("running_mean", "running_var")
_LEARNED = ("weight", "bias")


@dataclass(frozen=True)
class Rule:
    """The module `source` of a state dict is these layers: one, or a BatchNorm and its Scale."""

    source: str
    layers: tuple[str, ...]


def conv(source: str, layer: str) -> Rule:
    """A convolution or inner product."""
    return Rule(source, (layer,))


def norm(source: str, batch_norm: str, scale: str) -> Rule:
    """A batch normalisation."""
    return Rule(source, (batch_norm, scale))


@dataclass(frozen=True)
class Mismatch:
    """How a state dict differs from what a net's rules ask for; empty where it fits."""

    missing: list[str]
    unknown: list[str]
    shapes: list[str]

    def __bool__(self) -> bool:
        return bool(self.missing or self.unknown or self.shapes)

    def __str__(self) -> str:
        parts = (
            ("it lacks ", self.missing),
            ("it has more than the net: ", self.unknown),
            ("shapes differ: ", self.shapes),
        )
        return "; ".join(words + _some(names) for words, names in parts if names)


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
    return ", ".join(names[:_LISTED]) + more


@dataclass(frozen=True)
class _Place:
    key: str
    shape: Shape


def _places(rules: Iterable[Rule], walked: Iterable[LayerShapes]) -> dict[str, list[_Place]]:
    """Layer → the keys of its blobs, with the shapes that the net wants; without the factor."""
    params = {s.layer.name: (s.layer.type, [shape for shape, _ in s.params]) for s in walked}
    out = {}
    for rule in rules:
        for name in rule.layers:
            kind, shapes = params[name]
            words = _STATISTICS if kind == "BatchNorm" else _LEARNED
            out[name] = [
                _Place(f"{rule.source}.{word}", shape)
                for word, shape in zip(words, shapes, strict=False)
            ]
    return out


def compare(state: State, rules: Iterable[Rule], walked: Iterable[LayerShapes]) -> Mismatch:
    """What keeps `state` from being the weights of the net."""
    wanted = {p.key: p.shape for places in _places(rules, walked).values() for p in places}
    return Mismatch(
        [key for key in wanted if key not in state],
        [key for key in state if key not in wanted],
        [
            f"{key} is {_say(state[key].shape)}, the net's {_say(shape)}"
            for key, shape in wanted.items()
            if key in state and not _fits(state[key].shape, shape)
        ],
    )


def _fits(source: Shape, target: Shape) -> bool:
    """Equal, or one is an inner product and the other a convolution over all of its bottom."""
    if source == target:
        return True
    whole = 2 in (len(source), len(target)) and source[:1] == target[:1]
    return whole and math.prod(source) == math.prod(target)


def _say(shape: Sequence[int]) -> str:
    return "×".join(map(str, shape)) or "a number"


def blobs(state: State, rules: Sequence[Rule], walked: Sequence[LayerShapes]) -> Layers:
    """The layers' blobs in the net's order; `state` fits, as `compare` says.

    Raises `WeightsError` for values that are infinite or nan.
    """
    places = _places(rules, walked)
    out: Layers = []
    for shaped in walked:
        name, kind = shaped.layer.name, shaped.layer.type
        if name not in places:
            continue
        arrays = [_finite(state[p.key], p.key).reshape(p.shape) for p in places[name]]
        if kind == "BatchNorm":
            arrays.append(np.ones(1, np.float32))
        out.append((name, kind, arrays))
    return out


def _finite(array: np.ndarray, key: str) -> np.ndarray:
    if not np.isfinite(array).all():
        raise WeightsError(f"{key} holds values that are infinite or nan. Take another checkpoint.")
    return array
