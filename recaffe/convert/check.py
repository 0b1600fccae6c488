"""Whether a converted net computes what the engine computes, on noise and on pictures."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from recaffe.convert.module import Module, deploy_layers, with_batch
from recaffe.engines.torch.net import Net
from recaffe.errors import NetError
from recaffe.net.shapes import Shape
from recaffe.net.weights import Weights
from recaffe.proto import caffe_pb2 as pb

# float32 sums in another order; a wrong rule is off by far more.
TOLERANCE = 1e-4
Blobs = dict[str, np.ndarray]


@dataclass(frozen=True)
class Difference:
    """The largest absolute difference over all outputs, and the largest value it is held against."""

    absolute: float
    largest: float

    @property
    def relative(self) -> float:
        return self.absolute / max(self.largest, 1e-6)


def samples(module: Module) -> list[tuple[str, Blobs]]:
    """(what it is, inputs): noise; smooth pictures of 0 to 255, their mean subtracted; the same
    scaled by 1/255, for nets that want that and saturate on the others.

    Batches of different size where the net takes any.
    """
    rng = np.random.default_rng(0)
    first = next(iter(module.inputs.values()))[0]

    def sized(shape: Shape, batch: int) -> Shape:
        return (batch, *shape[1:]) if shape and shape[0] == first else shape

    out = []
    for what, make, batch in (
        ("noise", _noise, 3),
        ("pictures", _pictures, 1),
        ("scaled pictures", _scaled, 2),
    ):
        n = module.batch or batch
        out.append((what, {b: make(rng, sized(s, n)) for b, s in module.inputs.items()}))
    return out


def _noise(rng: np.random.Generator, shape: Shape) -> np.ndarray:
    return rng.normal(0, 1, shape).astype(np.float32)


def _pictures(rng: np.random.Generator, shape: Shape) -> np.ndarray:
    """Low frequencies with a little noise, as photographs have; no two pixels alike, for ArgMax."""
    if len(shape) != 4 or min(shape[2:]) < 2:
        return _noise(rng, shape)
    n, c, h, w = shape
    coarse = torch.from_numpy(rng.uniform(10, 245, (n, c, 6, 6)).astype(np.float32))
    smooth = torch.nn.functional.interpolate(coarse, (h, w), mode="bicubic").numpy()
    grain = rng.normal(0, 6, shape)
    return (smooth + grain - 117).astype(np.float32)


def _scaled(rng: np.random.Generator, shape: Shape) -> np.ndarray:
    return _pictures(rng, shape) / np.float32(255)


def engine(net: pb.NetParameter, weights: Weights, inputs: Blobs, where: str) -> Blobs:
    """All blobs of the net in the engine, on the CPU."""
    batch = next(iter(inputs.values())).shape[0]
    layers = with_batch(deploy_layers(net, where), batch)
    param = pb.NetParameter(name=net.name, layer=layers)
    built = Net(param, pb.TEST, {b: x.shape for b, x in inputs.items()})
    built.load(weights)
    with torch.no_grad():
        blobs = built({b: torch.from_numpy(x) for b, x in inputs.items()})
    return {name: value.numpy() for name, value in blobs.items()}


def compare(
    net: pb.NetParameter,
    weights: Weights,
    module: Module,
    where: str,
    run: Callable[[list[Blobs]], list[Sequence[np.ndarray]]],
) -> dict[str, Difference]:
    """Difference by kind of input between `run` and the engine.

    `run` takes the inputs of each sample and returns its outputs in order.

    Raises `NetError` if one is larger than `TOLERANCE` of the largest value, or not a number.
    """
    found = {}
    given = samples(module)
    made = run([inputs for _, inputs in given])
    for (what, inputs), outputs in zip(given, made, strict=True):
        theirs = engine(net, weights, inputs, where)
        worst, largest = 0.0, 0.0
        for name, ours in zip(module.outputs, outputs, strict=True):
            wanted = theirs[name]
            if ours.shape != wanted.shape:
                raise NetError(
                    f"The converted net makes {name!r} of shape {ours.shape} where the engine makes "
                    f"{wanted.shape}. Nothing was written."
                )
            if not np.isfinite(wanted).all():
                raise NetError(
                    f"The net itself makes {name!r} infinite or nan on {what}. Nothing was written."
                )
            worst = max(worst, float(np.abs(ours - wanted).max(initial=0)))
            largest = max(largest, float(np.abs(wanted).max(initial=0)))
        found[what] = d = Difference(worst, largest)
        if not d.relative <= TOLERANCE:
            raise NetError(
                f"The converted net differs from the engine by {worst:.3g} on {what} (largest value "
                f"{largest:.3g}). Nothing was written; please report this net."
            )
    return found
