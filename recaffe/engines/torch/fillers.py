"""Caffe's weight fillers, seeded by layer so that nets which share layers start alike.

Source: include/caffe/filler.hpp of BVLC Caffe 1.0.
"""

from __future__ import annotations

import zlib

import numpy as np

from recaffe.errors import NetError
from recaffe.proto import caffe_pb2 as pb


def fill(shape: tuple[int, ...], filler: pb.FillerParameter, seed: int, name: str) -> np.ndarray:
    """A float32 array of `shape`; `seed` and `name` (layer and blob) choose the numbers.

    Raises `NetError` for a filler that Caffe doesn't have, or a shape that it can't fill.
    """
    if filler.sparse >= 0 and filler.type != "gaussian":
        raise NetError(f"Filler {filler.type!r} has no `sparse`; only gaussian has.")
    rng = np.random.Generator(np.random.Philox(key=[seed, zlib.crc32(name.encode())]))
    out = _values(shape, filler, rng)
    return np.asarray(out, np.float32, order="C")


def _values(shape: tuple[int, ...], f: pb.FillerParameter, rng: np.random.Generator) -> np.ndarray:
    if not shape and (f.type in ("xavier", "msra", "positive_unitball") or f.sparse >= 0):
        raise NetError(f"Filler {f.type!r} wants a blob with axes, not a single value.")
    if f.type == "constant":
        return np.full(shape, f.value)
    if f.type == "uniform":
        return rng.uniform(f.min, f.max, shape)
    if f.type == "gaussian":
        values = rng.normal(f.mean, f.std, shape)
        if f.sparse >= 0:  # on average `sparse` weights an output stay
            values *= rng.random(shape) < min(1.0, f.sparse / shape[0])
        return values
    if f.type == "xavier":
        scale = np.sqrt(3.0 / _fan(shape, f))
        return rng.uniform(-scale, scale, shape)
    if f.type == "msra":
        return rng.normal(0, np.sqrt(2.0 / _fan(shape, f)), shape)
    if f.type == "positive_unitball":
        values = rng.random(shape)
        flat = values.reshape(shape[0], -1)
        return (flat / flat.sum(1, keepdims=True)).reshape(shape)
    if f.type == "bilinear":
        if len(shape) != 4 or shape[2] != shape[3]:
            raise NetError(f"Filler 'bilinear' wants four axes and square kernels, not {shape}.")
        k = shape[-1]
        factor = (k + 1) // 2
        centre = (k - 1) / (2.0 * factor)
        row = 1 - np.abs(np.arange(k) / factor - centre)
        return np.broadcast_to(row[:, None] * row[None], shape).copy()
    raise NetError(f"Filler type {f.type!r} is none of Caffe's.")


def _fan(shape: tuple[int, ...], f: pb.FillerParameter) -> float:
    size = int(np.prod(shape))
    fan_in, fan_out = size / shape[0], size / (shape[1] if len(shape) > 1 else 1)
    if f.variance_norm == pb.FillerParameter.FAN_OUT:
        return fan_out
    if f.variance_norm == pb.FillerParameter.AVERAGE:
        return (fan_in + fan_out) / 2
    return fan_in
