"""Layers whose top is like their bottom, and the settings with which they can compute nothing.

Source: `LayerSetUp` of each layer in BVLC Caffe 1.0, whose checks of these are partly debug checks.
"""

from __future__ import annotations

import math

from recaffe.errors import NetError
from recaffe.net.shapes.base import Result, Shape, same
from recaffe.proto import caffe_pb2 as pb


def dropout(layer: pb.LayerParameter, bottoms: list[Shape]) -> Result:
    """A share that can be dropped, and something left."""
    ratio = layer.dropout_param.dropout_ratio
    if not 0 <= ratio < 1:
        raise NetError(f"dropout_ratio {ratio:g} must be at least 0 and less than 1.")
    return same(layer, bottoms)


def exp(layer: pb.LayerParameter, bottoms: list[Shape]) -> Result:
    """A base that has powers, and base^shift within float32."""
    p = layer.exp_param
    if p.base != -1 and p.base <= 0:
        raise NetError(f"base {p.base:g} must be positive, or -1 for e.")
    if (1.0 if p.base == -1 else math.log(p.base)) * p.shift > math.log(3.4e38):
        raise NetError(f"shift {p.shift:g} makes base^shift larger than a float32 can be.")
    return same(layer, bottoms)


def log(layer: pb.LayerParameter, bottoms: list[Shape]) -> Result:
    """A base that has logarithms."""
    base = layer.log_param.base
    if base != -1 and (base <= 0 or base == 1):
        raise NetError(f"base {base:g} must be positive and not 1, or -1 for e.")
    return same(layer, bottoms)


def power(layer: pb.LayerParameter, bottoms: list[Shape]) -> Result:
    """Where x doesn't count, shift^power must be a number."""
    p = layer.power_param
    if p.scale == 0 and p.power != 0:
        if p.shift == 0 and p.power < 0:
            raise NetError(f"scale 0 and shift 0 make 0^{p.power:g}, which is infinite.")
        if p.shift and p.power * math.log(abs(p.shift)) > math.log(3.4e38):
            raise NetError(f"scale 0 makes {p.shift:g}^{p.power:g}, larger than a float32 can be.")
        if p.shift < 0 and p.power != int(p.power):
            raise NetError(f"scale 0 makes {p.shift:g}^{p.power:g}, which is no real number.")
    return same(layer, bottoms)
