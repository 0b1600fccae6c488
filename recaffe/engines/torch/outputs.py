"""Means of a net's outputs over parts of unequal weight: batches of a test, shares of a step."""

from __future__ import annotations

import torch
from torch import Tensor

from recaffe.engines.base import Output
from recaffe.engines.torch.distributed import Group
from recaffe.engines.torch.losses import adds_up, counts_labels, valid
from recaffe.engines.torch.net import Net
from recaffe.net import graph
from recaffe.proto import caffe_pb2 as pb


class Means:
    """The means of all outputs that don't grow with the batch: losses, accuracies.

    What a layer divides by weighs its value, so that the mean over parts is that of the whole; a
    loss that doesn't divide is that of `whole` pictures, a batch of all processes. They stand in
    Caffe's order, which is that of the alphabet.
    """

    def __init__(self, net: Net, device: torch.device, whole: int) -> None:
        self.whole = whole
        makers = {top: (x, i) for x in net.layers for i, top in enumerate(x.top)}
        shapes = {t: s for w in net.walked for t, s in zip(w.layer.top, w.tops, strict=False)}
        self.makers = {
            name: makers[name]
            for name in sorted(net.outputs)
            if shapes[name] in ((), (1,)) or makers[name][0].type == "Accuracy"
        }
        self.weights = graph.loss_weights(net.layers)
        zeros = lambda n: torch.zeros(shapes[n] or (1,), dtype=torch.float64, device=device)  # noqa: E731 - twice in a row
        self.values = {n: zeros(n) for n in self.makers}
        self.counts = {n: zeros(n) for n in self.makers}

    def add(self, blobs: dict[str, Tensor], pictures: int) -> None:
        """Count a part in; `blobs` are the outputs and the labels, on the device."""
        for name, (layer, top) in self.makers.items():
            if layer.type in graph.LOSSES and adds_up(layer):
                self.values[name] += blobs[name].detach().double().reshape(-1)
                self.counts[name] += pictures / self.whole
                continue
            weight = _weight(layer, top, blobs, pictures)
            self.values[name] += blobs[name].detach().double().reshape(-1) * weight
            self.counts[name] += weight

    def outputs(self, group: Group) -> tuple[Output, ...]:
        """The means over all parts of all processes; vectors one by one."""
        flat = [v.tolist() for v in self.values.values()]
        sums = group.sums([x for values in flat for x in values])
        counts = group.sums([x for c in self.counts.values() for x in c.tolist()])
        names = [n for n, values in zip(self.values, flat, strict=True) for _ in values]
        return tuple(
            Output(name, value / max(count, 1e-30), self.weights.get(name, 0.0))
            for name, value, count in zip(names, sums, counts, strict=True)
        )


def _weight(
    layer: pb.LayerParameter, top: int, blobs: dict[str, Tensor], pictures: int
) -> Tensor | float:
    labels = blobs.get(layer.bottom[1]) if len(layer.bottom) > 1 else None
    if labels is None:
        return float(pictures)
    if layer.type == "Accuracy" and top:  # by class
        classes = blobs[layer.top[top]].numel()
        labels = labels.reshape(-1).long()
        if layer.accuracy_param.HasField("ignore_label"):
            labels = labels[labels != layer.accuracy_param.ignore_label]
        return torch.bincount(labels, minlength=classes).double()
    return valid(layer, labels).double() if counts_labels(layer) else float(pictures)
