"""Random nets of one layer: numbers, shapes and prototxt text from one hypothesis source."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np
from hypothesis import strategies as st

T = TypeVar("T")


@dataclass
class Case:
    """A net's layers (without its inputs), the inputs, and how they may be compared."""

    layers: str
    blobs: dict[str, np.ndarray]
    phase: str = "TRAIN"
    passes: int = 1
    params: dict[str, list[np.ndarray]] | None = None
    # Blobs whose gradients are compared; None stands for all inputs but the labels.
    gradients: tuple[str, ...] | None = None
    force_backward: bool = True
    backward: bool = True

    def text(self) -> str:
        """The whole net."""
        force = "force_backward: true\n" if self.force_backward and self.backward else ""
        return force + "".join(map(_input, self.blobs.items())) + self.layers


def _input(item: tuple[str, np.ndarray]) -> str:
    name, array = item
    dims = " ".join(f"dim: {d}" for d in array.shape)
    return (
        f'layer {{ name: "{name}" type: "Input" top: "{name}" '
        f"input_param {{ shape {{ {dims} }} }} }}\n"
    )


def layer(
    kind: str,
    settings: str = "",
    bottoms: Sequence[str] = ("x",),
    tops: Sequence[str] = ("y",),
    name: str = "layer",
) -> str:
    """A layer's prototxt."""
    wires = "".join(f'bottom: "{b}" ' for b in bottoms) + "".join(f'top: "{t}" ' for t in tops)
    return f'layer {{ name: "{name}" type: "{kind}" {wires}{settings} }}\n'


@dataclass
class Draw:
    """Draws what a case is made of."""

    data: Any
    rng: np.random.Generator = field(init=False)

    def __post_init__(self) -> None:
        self.rng = np.random.default_rng(self.data.draw(st.integers(0, 2**32 - 1), "seed"))

    def int(self, low: int, high: int) -> int:
        """An integer, both ends included."""
        return self.data.draw(st.integers(low, high))

    def of(self, *values: T) -> T:
        """One of the values."""
        return self.data.draw(st.sampled_from(values))

    def bool(self) -> bool:
        """True or false."""
        return self.data.draw(st.booleans())

    def shape(self, *most: int, least: int = 1) -> tuple[int, ...]:
        """A shape with at most so many along each axis."""
        return tuple(self.int(least, m) for m in most)

    def any_shape(self, axes: tuple[int, int] = (1, 4), most: int = 6) -> tuple[int, ...]:
        """A shape of so many axes."""
        return self.shape(*[most] * self.int(*axes))

    def picture(self, least: int = 1) -> tuple[int, ...]:
        """N×C×H×W."""
        return (self.int(1, 3), self.int(1, 8), self.int(least, 9), self.int(least, 9))

    def normal(self, shape: Sequence[int]) -> np.ndarray:
        """Values around 0."""
        return self.rng.normal(0, 1, tuple(shape)).astype(np.float32)

    def coarse(self, shape: Sequence[int]) -> np.ndarray:
        """Values around 0 with many ties."""
        return (np.round(self.normal(shape) * 2) / 2).astype(np.float32)

    def either(self, shape: Sequence[int]) -> np.ndarray:
        """Values around 0, with or without ties."""
        return self.coarse(shape) if self.bool() else self.normal(shape)

    def positive(self, shape: Sequence[int]) -> np.ndarray:
        """Values above 0.1."""
        return np.abs(self.normal(shape)) + np.float32(0.1)

    def labels(self, shape: Sequence[int], classes: int) -> np.ndarray:
        """Classes as Caffe holds them: floats."""
        return self.rng.integers(0, classes, tuple(shape)).astype(np.float32)

    def some(self, **settings: Any) -> str:
        """`name: value` for each setting, each there or not."""
        return " ".join(f"{k}: {text(v)}" for k, v in settings.items() if self.bool())


def text(value: Any) -> str:
    """A value in prototxt."""
    return str(value).lower() if isinstance(value, bool) else str(value)
