"""A deploy net and its weights as the source of a plain PyTorch module, and its state."""

from __future__ import annotations

import copy
import keyword
import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from torch import nn

from recaffe.convert.layers import PIECES
from recaffe.convert.pieces import HELPERS, Spot, Unconvertible
from recaffe.errors import NetError
from recaffe.net import graph, shapes
from recaffe.net.shapes import LayerShapes, Shape
from recaffe.net.weights import Weights
from recaffe.proto import caffe_pb2 as pb

_TAKEN = frozenset({*dir(nn.Module()), "self", "torch", "nn", "F"})


@dataclass(frozen=True)
class Module:
    """A net's source text and its state dict; `inputs` and `outputs` are blobs, in order.

    `batch` is the batch that the net is bound to by its own layers, or None if any will do.
    """

    source: str
    class_name: str
    state: dict[str, np.ndarray]
    inputs: dict[str, Shape]
    outputs: list[str]
    batch: int | None


def deploy_layers(net: pb.NetParameter, where: str) -> list[pb.LayerParameter]:
    """The TEST layers of a deploy net; raises `NetError` that names what a deploy net lacks."""
    layers = graph.of_phase(net, pb.TEST)
    for layer in layers:
        if layer.type in graph.DATA and layer.type != "Input":
            raise NetError(
                f"{where}: layer {layer.name!r} ({layer.type}) reads data. Converting wants a deploy "
                "net, whose Input layer gives the shape."
            )
        if layer.type in graph.LOSSES or layer.type == "Accuracy":
            raise NetError(
                f"{where}: layer {layer.name!r} ({layer.type}) wants labels. Converting wants a "
                "deploy net, which ends in the scores."
            )
    if not any(x.type == "Input" for x in layers):
        raise NetError(f"{where} has no Input layer. Converting wants a deploy net.")
    return layers


def with_batch(layers: Sequence[pb.LayerParameter], batch: int) -> list[pb.LayerParameter]:
    """The layers with the first dimension of their inputs replaced.

    Only of those inputs that share the first input's: another one is no batch.
    """
    out = [copy.deepcopy(x) for x in layers]
    declared = [s for x in out if x.type == "Input" for s in x.input_param.shape]
    first = declared[0].dim[0]
    for shape in declared:
        if shape.dim and shape.dim[0] == first:
            shape.dim[0] = batch
    return out


def convert(net: pb.NetParameter, weights: Weights, where: str, about: str) -> Module:
    """The module of a deploy net. `about` goes into the file's docstring.

    Raises `NetError` that names the first layer that PyTorch has no counterpart for.
    """
    layers = deploy_layers(net, where)
    batch = None
    try:
        walked, grown = (shapes.walk(with_batch(layers, n), {}) for n in (2, 3))
    except NetError:  # a Reshape that says how many pictures there are
        walked = grown = shapes.walk(layers, {})
        batch = next(s.tops[0][0] for s in walked if s.layer.type == "Input")
    inputs = {
        top: shape
        for s in walked
        if s.layer.type == "Input"
        for top, shape in zip(s.layer.top, s.tops, strict=False)
    }
    outputs = [b for b in graph.outputs(layers) if b not in inputs]
    writer = _Writer(list(inputs))
    for s, g in zip(walked, grown, strict=True):
        if s.layer.type != "Input":
            writer.add(s, g, weights)
    class_name = re.sub(r"\W", "_", net.name) or "Net"
    class_name = class_name if class_name.isidentifier() else f"Net_{class_name}"
    if class_name in HELPERS:
        class_name += "Net"
    source = writer.source(class_name, about, inputs, outputs, batch)
    return Module(source, class_name, writer.state, inputs, outputs, batch)


class _Names:
    """Python names for Caffe's, each one once."""

    def __init__(self) -> None:
        self.given: dict[str, str] = {}

    def __call__(self, name: str) -> str:
        if name not in self.given:
            word = re.sub(r"\W", "_", name, flags=re.ASCII) or "_"
            word = word if word.isidentifier() else f"_{word}"
            while word in self.given.values() or word in _TAKEN or keyword.iskeyword(word):
                word += "_"
            self.given[name] = word
        return self.given[name]


class _Writer:
    """The lines of the class, as layers are added in their order."""

    def __init__(self, inputs: Sequence[str]) -> None:
        self.blobs, self.attributes = _Names(), _Names()
        self.arguments = [self.blobs(b) for b in inputs]
        self.init: list[str] = []
        self.forward: list[str] = []
        self.state: dict[str, np.ndarray] = {}
        self.helpers: dict[str, None] = {}

    def add(self, s: LayerShapes, grown: LayerShapes, weights: Weights) -> None:
        """One layer; raises `NetError` if there is no counterpart."""
        layer = s.layer
        if layer.type not in PIECES:
            raise NetError(f"Layer {layer.name!r} ({layer.type}) can't be converted.")
        if [shape for shape, _ in s.params] != [shape for shape, _ in grown.params]:
            raise NetError(
                f"Layer {layer.name!r} ({layer.type}) can't be converted: what it learns has the "
                "batch's size."
            )
        blobs = [
            np.asarray(b, np.float32).reshape(shape)
            for b, (shape, _) in zip(weights.get(layer.name, []), s.params, strict=True)
        ]
        name = self.attributes(layer.name)
        bottoms = [self.blobs(b) for b in layer.bottom]
        try:
            piece = PIECES[layer.type](Spot(s, blobs, bottoms, f"self.{name}", grown.tops))
        except Unconvertible as error:
            raise NetError(
                f"Layer {layer.name!r} ({layer.type}) can't be converted: {error}."
            ) from error
        if piece.module:
            # A line break in a name would end the comment, and what follows would be run.
            own = layer.name if layer.name.isprintable() else repr(layer.name)
            renamed = "" if name == layer.name else f"  # {own}"
            self.init.append(f"self.{name} = {piece.module}{renamed}")
        self.state |= {f"{name}.{key}": value for key, value in piece.state.items()}
        if piece.helper:
            self.helpers[piece.helper] = None
        tops = [self.blobs(t) for t in layer.top]
        # All bottoms are read before the first top is written, which may be one of them.
        if tops:
            self.forward.append(f"{', '.join(tops)} = {', '.join(piece.calls[: len(tops)])}")

    def source(
        self,
        class_name: str,
        about: str,
        inputs: dict[str, Shape],
        outputs: Sequence[str],
        batch: int | None,
    ) -> str:
        """The whole file."""
        takes = ", ".join(f"{b} {_shape(s, batch)}" for b, s in inputs.items())
        gives = ", ".join(outputs)
        uses_f = any("F." in x for x in [*self.forward, *(HELPERS[h] for h in self.helpers)])
        uses_torch = any(
            "torch." in x for x in [*self.forward, *(HELPERS[h] for h in self.helpers)]
        )
        returned = ", ".join(self.blobs(b) for b in outputs)
        said = f"{about}\n\nTakes {takes}; gives {gives}.\n"
        lines = [
            f'"""{_quoted(said)}"""\n',
            *(["import torch"] if uses_torch else []),
            *(["import torch.nn.functional as F"] if uses_f else []),
            "from torch import nn\n",
            *(f"\n{HELPERS[h]}" for h in self.helpers),
            f"\nclass {class_name}(nn.Module):",
            "    def __init__(self):",
            "        super().__init__()",
            *(f"        {x}" for x in self.init),
            "",
            f"    def forward(self, {', '.join(self.arguments)}):",
            *(f"        {x}" for x in self.forward),
            f"        return {returned}",
            "",
        ]
        return "\n".join(lines)


def _shape(shape: Shape, batch: int | None) -> str:
    return "×".join(["N" if batch is None else str(batch), *map(str, shape[1:])])


def _quoted(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"""', "'''")
