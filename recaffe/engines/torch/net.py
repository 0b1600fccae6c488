"""A NetParameter of one phase as a PyTorch module."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from recaffe.engines.torch.fillers import fill
from recaffe.engines.torch.layers import FORWARD, Context
from recaffe.errors import NetError
from recaffe.net import graph, shapes, weights
from recaffe.proto import caffe_pb2 as pb


class Net(nn.Module):
    """Runs the layers in their order over a dictionary of named blobs, as Caffe does.

    `inputs` gives the shapes of what data layers make. Parameters are filled from `seed`; a net
    with `share` takes them from another net by layer name, as a test net from its training net.

    Raises `NetError` for an unknown type, a missing bottom, a shape that doesn't fit.
    """

    def __init__(
        self,
        net: pb.NetParameter,
        phase: int,
        inputs: dict[str, shapes.Shape],
        seed: int = 0,
        share: Net | None = None,
    ) -> None:
        super().__init__()
        self.name, self.phase = net.name, phase
        layers = graph.of_phase(net, phase)
        self.walked = shapes.walk(layers, inputs)
        self.layers = [s.layer for s in self.walked if s.layer.type not in graph.DATA]
        self.blobs: dict[str, list[Tensor]] = {}
        self.specs: dict[str, list[pb.ParamSpec]] = {}
        self._params = nn.ParameterList()
        shared: dict[str, nn.Parameter] = {}
        for s in self.walked:
            if s.params:
                self._make(s, seed, share, shared)
        self._in_place = self._safe_in_place()
        consumed = {b for x in layers for b in x.bottom}
        # A blob that nothing reads is an output of the net; an in-place layer reads its own top.
        self.outputs = [t for x in self.layers for t in x.top if t not in consumed]
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's stub omits it

    def _make(
        self, s: shapes.LayerShapes, seed: int, share: Net | None, shared: dict[str, nn.Parameter]
    ) -> None:
        name, made = s.layer.name, []
        specs = [
            s.layer.param[i] if i < len(s.layer.param) else pb.ParamSpec()
            for i in range(len(s.params))
        ]
        for i, (shape, filler) in enumerate(s.params):
            spec = specs[i]
            if share is not None:
                made.append(share.blobs[name][i])
                continue
            if spec.name and spec.name in shared:
                if shared[spec.name].shape != shape:
                    raise NetError(
                        f"Layer {name!r} shares the parameter {spec.name!r} of shape "
                        f"{tuple(shared[spec.name].shape)}, but its own is {shape}."
                    )
                made.append(shared[spec.name])
                continue
            value = torch.from_numpy(fill(shape, filler, seed, f"{name}[{i}]"))
            trained = spec.lr_mult != 0 and s.layer.type != "BatchNorm"
            param = nn.Parameter(value, requires_grad=trained)
            self._params.append(param)
            if spec.name:
                shared[spec.name] = param
            made.append(param)
        self.blobs[name], self.specs[name] = made, specs

    def _safe_in_place(self) -> set[int]:
        """Layers that may overwrite their bottom: written just before, read by nobody else."""
        safe = set()
        for i, layer in enumerate(self.layers):
            before = self.layers[i - 1] if i else None
            if (
                before is not None
                and list(layer.bottom) == list(layer.top) == list(before.top)
                and before.type in graph.CLASSIFIERS
            ):
                safe.add(i)
        return safe

    def forward(self, inputs: dict[str, Tensor], until: str = "") -> dict[str, Tensor]:
        """All blobs by name, computed from the data blobs; stops after layer `until` if given."""
        blobs = dict(inputs)
        training = self.phase == pb.TRAIN
        for i, layer in enumerate(self.layers):
            bottoms = [blobs[b] for b in layer.bottom]
            context = Context(training, i in self._in_place)
            tops = FORWARD[layer.type](layer, bottoms, self.blobs.get(layer.name, ()), context)
            blobs.update(zip(layer.top, tops, strict=False))
            if layer.name == until:
                break
        return blobs

    def loss(self, blobs: dict[str, Tensor]) -> Tensor:
        """The weighted sum of all losses; raises `NetError` if the net has none."""
        total: Tensor | None = None
        for layer in self.layers:
            for i, top in enumerate(layer.top):
                weight = (
                    layer.loss_weight[i]
                    if i < len(layer.loss_weight)
                    else float(i == 0 and layer.type in graph.LOSSES)
                )
                if weight:
                    value = blobs[top].sum() * weight
                    total = value if total is None else total + value
        if total is None:
            raise NetError(f"The net {self.name!r} has no loss in TRAIN, so it can't be trained.")
        return total

    def learnable(self) -> Iterator[tuple[str, int, nn.Parameter, pb.ParamSpec]]:
        """(layer, index, parameter, its rates) in Caffe's order, each shared parameter once."""
        seen: set[int] = set()
        for name, blobs in self.blobs.items():
            for i, blob in enumerate(blobs):
                if id(blob) not in seen:
                    seen.add(id(blob))
                    yield name, i, blob, self.specs[name][i]  # type: ignore[misc]  # all are Parameters

    def load(self, source: weights.Weights, names: Sequence[str] | None = None) -> None:
        """Copy blobs by layer name: the layers `names`, or all that both sides have."""
        for name in self.blobs if names is None else names:
            if name not in source:
                continue
            for blob, array in zip(self.blobs[name], source[name], strict=True):
                with torch.no_grad():
                    blob.copy_(torch.from_numpy(np.array(array).reshape(blob.shape)))

    def to_proto(self) -> pb.NetParameter:
        """Names, types and blobs of the layers that learn, as a caffemodel holds them."""
        kinds = {x.name: x.type for x in self.layers}
        return weights.to_net(
            self.name,
            (
                (n, kinds[n], [b.detach().cpu().numpy() for b in blobs])
                for n, blobs in self.blobs.items()
            ),
        )
