"""Which layers of a net compute in float32 when the rest is in bfloat16.

Convolutions and inner products follow `torch.autocast`; what has no parameters and only moves or
selects values (or sums them in float32 by itself, as pooling) takes its bottoms as they come. Everything that sums, divides or exponentiates
computes in float32; its tops become bfloat16 again where the net goes on from them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from recaffe.engines.torch.layers import FORWARD, Context
from recaffe.net import graph
from recaffe.proto import caffe_pb2 as pb

Run = Callable[[pb.LayerParameter, list[Tensor], Sequence[Tensor], Context], list[Tensor]]
# autocast's own, or only moving values.
AS_THEY_COME = frozenset(
    {
        "BatchReindex", "Clip", "Concat", "Convolution", "Crop", "Deconvolution", "Dropout",
        "Eltwise", "Embed", "Filter", "Flatten", "Im2col", "InnerProduct", "Parameter", "Pooling",
        "ReLU", "Reshape", "Silence", "Slice", "Split", "Tile",
    }
)  # fmt: skip
# Ends of the net: losses, probabilities and measures stay float32.
ENDS = graph.LOSSES | {"Softmax", "Accuracy", "ArgMax", "Reduction"}


def run_layer(
    layer: pb.LayerParameter, bottoms: list[Tensor], blobs: Sequence[Tensor], context: Context
) -> list[Tensor]:
    """A layer's tops, in the precision that is its own under autocast."""
    forward = FORWARD[layer.type]
    device = bottoms[0].device.type if bottoms else "cpu"
    if not torch.is_autocast_enabled(device) or layer.type in AS_THEY_COME:
        return forward(layer, bottoms, blobs, context)
    half = torch.get_autocast_dtype(device)
    with torch.autocast(device, enabled=False):
        wide = [b.float() if b.dtype == half else b for b in bottoms]
        tops = forward(layer, wide, blobs, context)
    if layer.type in ENDS or bottoms[0].dtype != half:
        return tops
    return [t.to(half) if t.dtype == torch.float32 else t for t in tops]
