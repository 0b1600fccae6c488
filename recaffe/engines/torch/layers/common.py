"""Layers that multiply by weights, and those that only move or select values."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from recaffe.engines.torch.layers.base import Context, shape, wide
from recaffe.engines.torch.layers.labels import check
from recaffe.engines.torch.layers.linear import linear
from recaffe.net import shapes
from recaffe.net.shapes.common import concat_axis, slice_axis
from recaffe.proto import caffe_pb2 as pb


def inner_product(
    layer: pb.LayerParameter, x: list[Tensor], w: Sequence[Tensor], _: Context
) -> list[Tensor]:
    """All axes from `axis` on by a matrix."""
    p = layer.inner_product_param
    axis = shapes.axis_of(p.axis, shape(x[0]))
    weight = w[0].t() if p.transpose else w[0]
    return [linear(x[0].flatten(axis), weight, w[1] if p.bias_term else None)]


def embed(
    layer: pb.LayerParameter, x: list[Tensor], w: Sequence[Tensor], _: Context
) -> list[Tensor]:
    """A row of weights for each index; raises `DataError` for an index that has none."""
    indices = x[0].long()
    check(layer, indices, layer.embed_param.input_dim)
    out = F.embedding(indices, w[0])
    return [out + w[1] if layer.embed_param.bias_term else out]


def eltwise(
    layer: pb.LayerParameter, x: list[Tensor], w: Sequence[Tensor], _: Context
) -> list[Tensor]:
    """Sum with coefficients, product or maximum of bottoms."""
    p, out = layer.eltwise_param, x[0]
    if p.operation == pb.EltwiseParameter.SUM:
        coeff = list(p.coeff) or [1.0] * len(x)
        out = x[0] if coeff[0] == 1 else x[0] * coeff[0]
        for b, k in zip(x[1:], coeff[1:], strict=True):
            out = out.add(b, alpha=k)
    elif p.operation == pb.EltwiseParameter.PROD:
        for b in x[1:]:
            out = out * b
    else:
        # Of equals the second bottom wins over the first, and either over a later one.
        out = torch.where(x[0] > x[1], x[0], x[1])
        for b in x[2:]:
            out = torch.where(b > out, b, out)
    return [out]


def concat(
    layer: pb.LayerParameter, x: list[Tensor], w: Sequence[Tensor], _: Context
) -> list[Tensor]:
    """Bottoms one after the other."""
    return [torch.cat(x, concat_axis(layer.concat_param, shape(x[0])))]


def slices(
    layer: pb.LayerParameter, x: list[Tensor], w: Sequence[Tensor], _: Context
) -> list[Tensor]:
    """The bottom in parts."""
    axis = slice_axis(layer.slice_param, shape(x[0]))
    tops = shapes.tops_of(layer, [shape(x[0])])
    return list(x[0].split([t[axis] for t in tops], axis))


def to_shape(
    layer: pb.LayerParameter, x: list[Tensor], w: Sequence[Tensor], _: Context
) -> list[Tensor]:
    """The same values in another shape."""
    return [x[0].reshape(shapes.tops_of(layer, [shape(x[0])])[0])]


def copies(
    layer: pb.LayerParameter, x: list[Tensor], w: Sequence[Tensor], _: Context
) -> list[Tensor]:
    """The bottom once for each top, each with a gradient of its own."""
    return [x[0].view_as(x[0]) for _ in layer.top]


def reduction(
    layer: pb.LayerParameter, x: list[Tensor], w: Sequence[Tensor], _: Context
) -> list[Tensor]:
    """Sum, mean, sum of magnitudes or of squares over all axes from `axis` on."""
    p = layer.reduction_param
    b = wide(x[0]).flatten(shapes.axis_of(p.axis, shape(x[0])))
    if p.operation == pb.ReductionParameter.MEAN:
        out = b.mean(-1)
    elif p.operation == pb.ReductionParameter.ASUM:
        out = b.abs().sum(-1)
    elif p.operation == pb.ReductionParameter.SUMSQ:
        out = b.square().sum(-1)
    else:
        out = b.sum(-1)
    return [out * p.coeff]


def tile(
    layer: pb.LayerParameter, x: list[Tensor], w: Sequence[Tensor], _: Context
) -> list[Tensor]:
    """The bottom several times along an axis."""
    p = layer.tile_param
    return [torch.cat([x[0]] * p.tiles, shapes.axis_of(p.axis, shape(x[0])))]


def argmax(
    layer: pb.LayerParameter, x: list[Tensor], w: Sequence[Tensor], _: Context
) -> list[Tensor]:
    """Places (or values) of the top_k highest; of equals the last comes first."""
    p = layer.argmax_param
    b = x[0].detach()
    top = shapes.tops_of(layer, [shape(b)])[0]
    axis = shapes.axis_of(p.axis, shape(b)) if p.HasField("axis") else 1
    flat = b if p.HasField("axis") else b.reshape(b.shape[0], -1)
    size = flat.shape[axis]
    values, index = flat.flip(axis).sort(dim=axis, descending=True, stable=True)
    values, index = values.narrow(axis, 0, p.top_k), index.narrow(axis, 0, p.top_k)
    places = (size - 1 - index).to(b.dtype)
    if not p.out_max_val:
        return [places.reshape(top)]
    if p.HasField("axis"):
        return [values]
    return [torch.stack([places, values], 1).reshape(top)]


def batch_reindex(
    layer: pb.LayerParameter, x: list[Tensor], w: Sequence[Tensor], _: Context
) -> list[Tensor]:
    """Pictures in another order, some left out, some repeated."""
    return [x[0].index_select(0, x[1].long())]


def filtered(
    layer: pb.LayerParameter, x: list[Tensor], w: Sequence[Tensor], _: Context
) -> list[Tensor]:
    """The pictures that the last bottom selects by a value other than 0."""
    chosen = x[-1].reshape(-1).nonzero().reshape(-1)
    return [b.index_select(0, chosen) for b in x[:-1]]
