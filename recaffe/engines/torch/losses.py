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
from recaffe.errors import NetError
from recaffe.net import graph
from recaffe.proto import caffe_pb2 as pb

_NORMALIZED = ("SoftmaxWithLoss", "SigmoidCrossEntropyLoss", "InfogainLoss")


@dataclass(frozen=True)
class Term:
    """A top that counts in the loss, and how much."""

    layer: pb.LayerParameter
    blob: str
    weight: float


def terms(layers: Sequence[pb.LayerParameter], name: str) -> list[Term]:
    """All terms of a net's loss; raises `NetError` if it has none."""
    weights = graph.loss_weights(layers)
    found = [Term(x, top, weights[top]) for x in layers for top in x.top if top in weights]
    if not found:
        raise NetError(f"The net {name!r} has no loss in TRAIN, so it can't be trained.")
    return found


def normalization(layer: pb.LayerParameter) -> int:
    """What a loss layer divides its sum by, as its LayerSetUp decides."""
    p = layer.loss_param
    if layer.type not in _NORMALIZED:
        return pb.LossParameter.BATCH_SIZE
    if p.HasField("normalization"):
        return p.normalization
    if p.HasField("normalize"):
        return pb.LossParameter.VALID if p.normalize else pb.LossParameter.BATCH_SIZE
    if layer.type == "SigmoidCrossEntropyLoss":
        return pb.LossParameter.BATCH_SIZE
    return pb.LossParameter.VALID


def counts_labels(layer: pb.LayerParameter) -> bool:
    """Whether a layer divides by a number that follows from the labels."""
    if layer.type == "Accuracy":
        return layer.accuracy_param.HasField("ignore_label")
    return (
        layer.type in _NORMALIZED
        and layer.loss_param.HasField("ignore_label")
        and normalization(layer) == pb.LossParameter.VALID
    )


def adds_up(layer: pb.LayerParameter) -> bool:
    """Whether the parts' values add up to the whole's, undivided."""
    if layer.type in graph.LOSSES:
        return normalization(layer) == pb.LossParameter.NONE
    p = layer.reduction_param
    averages = layer.type == "Reduction" and p.operation == pb.ReductionParameter.MEAN
    return not (averages and p.axis == 0)


def valid(layer: pb.LayerParameter, labels: Tensor) -> Tensor:
    """How many labels the layer doesn't ignore."""
    p = layer.accuracy_param if layer.type == "Accuracy" else layer.loss_param
    return (labels != p.ignore_label).sum()


def shares(
    of: Sequence[Term], parts: Sequence[dict[str, Tensor]], group: Group
) -> list[list[float]]:
    """For each of this process's parts, what each term counts for in the whole batch's loss.

    Raises `NetError` for a loss on counted labels that are no data blob: they aren't known yet.
    """
    even = 1.0 / (len(parts) * group.world)
    out = [[1.0 if adds_up(t.layer) else even for t in of] for _ in parts]
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
