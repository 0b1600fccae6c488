"""`debug_info: true`: the mean absolute value of every blob and gradient, in Caffe's lines.

Source: `ForwardDebugInfo` and `BackwardDebugInfo` of BVLC Caffe 1.0. (Its `UpdateDebugInfo` is never
called.) A blob that several layers read has one gradient for each, which Caffe shows under the names
of the copies it makes; here they stand under the blob's own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor

from recaffe.engines.torch.layers import Context
from recaffe.engines.torch.net import Net
from recaffe.glog import number
from recaffe.net import graph
from recaffe.proto import caffe_pb2 as pb

Say = Callable[[str, str], None]


class Debug:
    """Says a net's lines by `say(text, source file)` while it runs inside `watching`."""

    def __init__(self, net: Net, say: Say) -> None:
        self.net, self._say = net, say
        self._gradients: dict[tuple[str, int], Tensor] = {}

    @contextmanager
    def watching(self, inputs: dict[str, Tensor], backward: bool = True) -> Iterator[None]:
        """Forward, and backward if there is one, of a part of a batch; `inputs` are its data."""
        self._gradients.clear()
        for shaped in self.net.walked:
            if shaped.layer.type in graph.DATA:
                for top in shaped.layer.top:
                    self._forward(shaped.layer, "top", top, inputs[top])
        run = self.net.run
        self.net.run = partial(self._run, run)
        try:
            yield
        finally:
            self.net.run = run
        if backward:
            self._backward()

    def _run(
        self,
        run: Callable[..., list[Tensor]],
        layer: pb.LayerParameter,
        bottoms: list[Tensor],
        blobs: Sequence[Tensor],
        context: Context,
    ) -> list[Tensor]:
        # A view of its own for each reader, so that each has a gradient of its own.
        own = [b.view_as(b) if b.requires_grad else b for b in bottoms]
        for i, bottom in enumerate(own):
            if bottom.requires_grad:
                bottom.register_hook(partial(self._gradients.__setitem__, (layer.name, i)))
        tops = run(layer, own, blobs, replace(context, in_place=False))
        for name, top in zip(layer.top, tops, strict=False):
            self._forward(layer, "top", name, top)
        for i, blob in enumerate(blobs):
            self._forward(layer, "param", _param_name(layer, i), blob)
        return tops

    def _forward(self, layer: pb.LayerParameter, kind: str, name: str, blob: Tensor) -> None:
        self._say(
            f"    [Forward] Layer {layer.name}, {kind} blob {name} data: {_mean(blob)}", "net.cpp"
        )

    def _backward(self) -> None:
        for layer in reversed(self.net.layers):
            line = f"    [Backward] Layer {layer.name},"
            for i, name in enumerate(layer.bottom):
                if (gradient := self._gradients.get((layer.name, i))) is not None:
                    self._say(f"{line} bottom blob {name} diff: {_mean(gradient)}", "net.cpp")
            for i, blob in enumerate(self.net.blobs.get(layer.name, ())):
                if blob.grad is not None:
                    self._say(f"{line} param blob {i} diff: {_mean(blob.grad)}", "net.cpp")
        params = [param.detach() for _, _, param, _ in self.net.learnable()]
        grads = [g for _, _, param, _ in self.net.learnable() if (g := param.grad) is not None]
        norms = [
            "({}, {})".format(*(number(_norm(values, order)) for values in (params, grads)))
            for order in (1, 2)
        ]
        self._say(
            f"    [Backward] All net params (data, diff): L1 norm = {norms[0]}; "
            f"L2 norm = {norms[1]}",
            "net.cpp",
        )


def _mean(blob: Tensor) -> str:
    return number(float(blob.detach().float().abs().mean()))


def _norm(blobs: Sequence[Tensor], order: int) -> float:
    if not blobs:
        return 0.0
    return float(torch.stack([torch.linalg.vector_norm(b, order) for b in blobs]).norm(order))


def _param_name(layer: pb.LayerParameter, i: int) -> str:
    name = layer.param[i].name if i < len(layer.param) else ""
    return name or str(i)
