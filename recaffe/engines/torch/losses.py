"""What the parts of a batch count for in the loss of the whole.

A batch is cut into equal parts: a process's share, and a pass's share of that. Caffe averages most
losses over the batch, so that a part counts for its size; but some divide by the number of labels
that aren't ignored, which differs from part to part, and some don't divide at all.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from recaffe.engines.torch.distributed import Group
from recaffe.engines.torch.layers.loss import NORMALIZED, normalization
from recaffe.errors import NetError
from recaffe.net import graph
from recaffe.net.shapes import LayerShapes
from recaffe.proto import caffe_pb2 as pb


@dataclass(frozen=True)
class Term:
    """A top that counts in the loss, and how much."""

    layer: pb.LayerParameter
    blob: str
    weight: float
    # How many axes its first bottom has, from which a negative axis counts.
    axes: int = 1


def terms(walked: Sequence[LayerShapes], name: str) -> list[Term]:
    """All terms of a net's loss; raises `NetError` if it has none."""
    weights = graph.loss_weights([s.layer for s in walked])
    found = [
        Term(s.layer, top, weights[top], len(s.bottoms[0]) if s.bottoms else 1)
        for s in walked
        for top in s.layer.top
        if top in weights
    ]
    if not found:
        raise NetError(f"The net {name!r} has no loss in TRAIN, so it can't be trained.")
    return found


def counts_labels(layer: pb.LayerParameter) -> bool:
    """Whether a layer divides by a number that follows from the labels."""
    if layer.type == "Accuracy":
        return layer.accuracy_param.HasField("ignore_label")
    return (
        layer.type in NORMALIZED
        and layer.loss_param.HasField("ignore_label")
        and normalization(layer) == pb.LossParameter.VALID
    )


def adds_up(layer: pb.LayerParameter, axes: int = 1) -> bool:
    """Whether the parts' values add up to the whole's, undivided; its bottom has so many axes."""
    if layer.type in graph.LOSSES:
        return normalization(layer) == pb.LossParameter.NONE
    p = layer.reduction_param
    averages = layer.type == "Reduction" and p.operation == pb.ReductionParameter.MEAN
    return not (averages and p.axis in (0, -axes))


def check_parts(of: Sequence[Term], walked: Sequence[LayerShapes]) -> None:
    """Raise `NetError` if parts of a batch can't tell what a term of the loss is over the whole:

    if it follows from a value that is itself one for the batch, as a loss or a Reduction makes it.
    """
    whole: dict[str, str] = {}
    above: dict[str, str] = {}
    for s in walked:
        layer = s.layer
        below = next((whole[b] for b in layer.bottom if b in whole), None)
        if below is not None:
            above |= dict.fromkeys(layer.top, below)
            whole |= dict.fromkeys(layer.top, below)
        elif layer.type in graph.LOSSES or _is_over_the_batch(s):
            whole[layer.top[0]] = layer.name
    for term in of:
        if term.blob in above:
            raise NetError(
                f"The loss {term.blob!r} is computed from what layer {above[term.blob]!r} makes of a "
                "whole batch, so it can't be added up from parts. Train it on one device without "
                "micro_batch, or give the loss_weight to that layer."
            )


def _is_over_the_batch(s: LayerShapes) -> bool:
    return s.layer.type == "Reduction" and s.layer.reduction_param.axis in (0, -len(s.bottoms[0]))


def valid(layer: pb.LayerParameter, labels: Tensor) -> Tensor:
    """How many labels the layer doesn't ignore."""
    p = layer.accuracy_param if layer.type == "Accuracy" else layer.loss_param
    # As the layers read them: a label is an integer, whatever the blob holds.
    return (labels.trunc() != p.ignore_label).sum()


def shares(
    of: Sequence[Term], parts: Sequence[dict[str, Tensor]], group: Group
) -> list[list[float]]:
    """For each of this process's parts, what each term counts for in the whole batch's loss.

    Raises `NetError` for a loss on counted labels that are no data blob: they aren't known yet.
    """
    even = 1.0 / (len(parts) * group.world)
    out = [[1.0 if adds_up(t.layer, t.axes) else even for t in of] for _ in parts]
    counted = [i for i, t in enumerate(of) if counts_labels(t.layer)]
    if even == 1.0 or not counted:
        return out
    counts = [[_valid(of[i].layer, part) for i in counted] for part in parts]
    totals = group.sums([float(sum(column)) for column in zip(*counts, strict=True)])
    for row, count in zip(out, counts, strict=True):
        for i, own, total in zip(counted, count, totals, strict=True):
            row[i] = max(1, own) / max(1.0, total)
    return out


def _valid(layer: pb.LayerParameter, part: dict[str, Tensor]) -> int:
    labels = part.get(layer.bottom[1])
    if labels is None:
        raise NetError(
            f"Loss layer {layer.name!r} has ignore_label on {layer.bottom[1]!r}, which no data layer "
            "makes. It can't be trained in parts: use one process and no micro_batch."
        )
    return int(valid(layer, labels))
