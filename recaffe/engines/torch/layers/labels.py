"""Labels and other indices: as integers, and refused where they point at nothing.

A GPU ends the whole process for such a label, in an assertion that doesn't say which. So what data
layers bring is looked at on the CPU, before it goes there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from recaffe.errors import DataError
from recaffe.net import graph
from recaffe.net.shapes import LayerShapes, axis_of, count
from recaffe.proto import caffe_pb2 as pb

_ON_LABELS = graph.CLASS_LOSSES | {"Accuracy"}
_NEVER_IGNORE = ("HingeLoss", "MultinomialLogisticLoss")


def integers(layer: pb.LayerParameter, labels: Tensor) -> tuple[Tensor, Tensor | None]:
    """Labels as integers, 0 where the layer ignores them; and where it doesn't, if it can."""
    p = layer.accuracy_param if layer.type == "Accuracy" else layer.loss_param
    found = labels.long()
    if not p.HasField("ignore_label") or layer.type in _NEVER_IGNORE:
        return found, None
    valid = found != p.ignore_label
    return found.where(valid, 0), valid


def check(layer: pb.LayerParameter, found: Tensor, classes: int) -> None:
    """Raises `DataError` for an integer outside 0…classes-1, where that costs nothing to see."""
    if found.device.type != "cpu" or torch.compiler.is_compiling() or not found.numel():
        return
    low, high = (int(v) for v in found.aminmax())
    wrong = low if low < 0 else high
    if 0 <= wrong < classes:
        return
    where = f"Layer {layer.name!r} ({layer.type})"
    if layer.type == "Embed":
        raise DataError(
            f"{where} has weights for the indices 0 to {classes - 1}, but met {wrong}. Set its "
            "input_dim to the number of indices, or mend the data."
        )
    raise DataError(
        f"{where} has scores for the classes 0 to {classes - 1}, but met the label {wrong}. Set "
        "num_output of the last InnerProduct or Convolution to the number of classes, or mend the "
        "labels."
    )


class Labels:
    """What a net's layers look up by the values of its data layers' blobs."""

    def __init__(self, walked: Sequence[LayerShapes]) -> None:
        self._readers: list[tuple[pb.LayerParameter, str, int]] = []
        made: set[str] = set()
        for s in walked:
            index = 0 if s.layer.type == "Embed" else 1
            wanted = s.layer.type in _ON_LABELS or s.layer.type == "Embed"
            if wanted and s.layer.bottom[index] not in made:
                self._readers.append((s.layer, s.layer.bottom[index], _classes(s)))
            if s.layer.type not in graph.DATA:
                made |= set(s.layer.top)

    def check(self, tops: Mapping[str, object]) -> None:
        """Raises `DataError` for the first that no layer has a row for; `tops` are on the CPU."""
        for layer, name, classes in self._readers:
            blob = tops.get(name)
            if isinstance(blob, Tensor):  # pictures are no labels
                found = blob.long() if layer.type == "Embed" else integers(layer, blob)[0]
                check(layer, found, classes)


def _classes(s: LayerShapes) -> int:
    layer, scores = s.layer, s.bottoms[0]
    if layer.type == "Embed":
        return layer.embed_param.input_dim
    axes = {
        "SoftmaxWithLoss": layer.softmax_param.axis,
        "InfogainLoss": layer.infogain_loss_param.axis,
        "Accuracy": layer.accuracy_param.axis,
    }
    if layer.type in axes:
        return scores[axis_of(axes[layer.type], scores)]
    return count(scores[1:])
