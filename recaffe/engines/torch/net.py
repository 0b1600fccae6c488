"""A NetParameter of one phase as a PyTorch module."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor, nn

from recaffe.engines.torch.fillers import fill
from recaffe.engines.torch.layers import Context
from recaffe.engines.torch.layers.loss import infogain_matrix
from recaffe.engines.torch.memory import check_weights
from recaffe.engines.torch.precision import Run, run_layer
from recaffe.errors import NetError, WeightsError
from recaffe.net import graph, shapes, weights
from recaffe.net.plain import plain
from recaffe.proto import caffe_pb2 as pb

# Types whose top is memory of its own that their backward pass doesn't look at again.
_FRESH = frozenset(
    {
        "BatchNorm", "Bias", "Concat", "Convolution", "Deconvolution", "Eltwise", "InnerProduct",
        "Pooling", "Scale",
    }
)  # fmt: skip


class Net(nn.Module):
    """Runs the layers in their order over a dictionary of named blobs, as Caffe does.

    `inputs` gives the shapes of what data layers make. Parameters are filled from `seed`, or without
    values as yet where `filled` is False: who loads all of them saves a second for 60 million. A net
    with `share` takes them from another net by layer name, as a test net from its training net.

    What others may look at: `layers` (without data layers) and `walked` (all, with their shapes);
    `blobs`, a layer's parameters by its name, one that layers share standing in each; `specs`,
    their rates; `outputs`, the blobs that no layer reads, in the layers' order; `loss_weights`.
    `run` computes each layer: a stand-in for it sees every layer's bottoms and tops.

    Raises `NetError` for a type that the engine hasn't, for layers that don't go together, and for
    a shape that doesn't fit.
    """

    def __init__(
        self,
        net: pb.NetParameter,
        phase: int,
        inputs: dict[str, shapes.Shape],
        seed: int = 0,
        share: Net | None = None,
        channels_last: bool = True,
        filled: bool = True,
    ) -> None:
        super().__init__()
        self.name, self.phase, self._filled = net.name, phase, filled
        self.run: Run = run_layer
        # This process's part of the whole batch, and how many there are.
        self.rank, self.world = 0, 1
        layers = graph.of_phase(net, phase)
        self.walked = shapes.walk(layers, inputs)
        check_weights(self.walked)
        self.layers = [s.layer for s in self.walked if s.layer.type not in graph.DATA]
        self.blobs: dict[str, list[Tensor]] = {}
        self.specs: dict[str, list[pb.ParamSpec]] = {}
        self._shapes = {s.layer.name: [shape for shape, _ in s.params] for s in self.walked}
        self._params = nn.ParameterList()
        shared: dict[str, tuple[str, nn.Parameter]] = {}
        for s in self.walked:
            if s.params:
                self._make(s, seed, share, shared)
            if s.layer.type == "InfogainLoss" and len(s.bottoms) < 3:
                axis = s.layer.infogain_loss_param.axis
                infogain_matrix(s.layer, s.bottoms[0][axis])
        self._in_place = _safe_in_place(self.layers)
        self._with_scale = _with_scale(self.layers)
        self._settings = [plain(layer) for layer in self.layers]
        self.loss_weights = graph.loss_weights(self.layers)
        free = set(graph.outputs(layers))
        self.outputs = list(dict.fromkeys(t for x in self.layers for t in x.top if t in free))
        for param in self._params:
            if channels_last and param.dim() == 4:
                param.data = param.data.contiguous(memory_format=torch.channels_last)

    def _make(
        self, s: shapes.LayerShapes, seed: int, share: Net | None,
        shared: dict[str, tuple[str, nn.Parameter]],
    ) -> None:  # fmt: skip
        name, made = s.layer.name, list[Tensor]()
        given = share.blobs.get(name) if share is not None else None
        if given is not None and [tuple(b.shape) for b in given] != self._shapes[name]:
            raise NetError(
                f"Layer {name!r} learns blobs of the shapes {[tuple(b.shape) for b in given]} in one "
                f"phase and {self._shapes[name]} in another. Make them equal, or rename one layer."
            )
        self.specs[name] = [
            s.layer.param[i] if i < len(s.layer.param) else pb.ParamSpec()
            for i in range(len(s.params))
        ]
        for i, ((shape, filler), spec) in enumerate(zip(s.params, self.specs[name], strict=True)):
            if given is not None:
                made.append(given[i])
            elif spec.name in shared:
                made.append(_shared(name, shape, spec, *shared[spec.name]))
            else:
                value = (
                    torch.from_numpy(fill(shape, filler, seed, f"{name}[{i}]"))
                    if self._filled
                    else torch.empty(shape)
                )
                param = nn.Parameter(value, requires_grad=_is_trained(s.layer, spec))
                self._params.append(param)
                made.append(param)
                if spec.name:
                    shared[spec.name] = (name, param)
        self.blobs[name] = made

    def params_of(self, name: str) -> list[Tensor]:
        """A layer's parameters in the shapes that it wants; none if it has none.

        They differ from those in `blobs` where layers share by `share_mode: PERMISSIVE`.
        """
        return [
            blob if tuple(blob.shape) == shape else blob.reshape(shape)
            for blob, shape in zip(self.blobs.get(name, ()), self._shapes[name], strict=True)
        ]

    def forward(self, inputs: dict[str, Tensor], until: str = "") -> dict[str, Tensor]:
        """All blobs by name, computed from the data blobs; stops after layer `until` if given."""
        blobs = dict(inputs)
        training = self.phase == pb.TRAIN
        done = -1
        for i, layer in enumerate(self._settings):
            if i <= done:
                continue
            bottoms = [blobs[b] for b in layer.bottom]
            for b, wanted in enumerate(layer.propagate_down):
                if not wanted:
                    bottoms[b] = bottoms[b].detach()
            params, done = self.params_of(layer.name), i
            # Who looks on sees each layer by itself.
            if i in self._with_scale and layer.name != until and self.run is run_layer:
                done = i + 1
                params += self.params_of(self._settings[done].name)
            context = Context(training, i in self._in_place, self.rank, self.world)
            tops = self.run(layer, bottoms, params, context)
            blobs.update(zip(layer.top, tops, strict=True))
            if self._settings[done].name == until:
                break
        return blobs

    def under(
        self, name: str, blobs: dict[str, Tensor], instead: Mapping[str, str]
    ) -> list[Tensor]:
        """The tops of one layer from all blobs of a pass, where it reads others `instead`."""
        layer = next(x for x in self._settings if x.name == name)
        bottoms = [blobs[instead.get(b, b)] for b in layer.bottom]
        context = Context(self.phase == pb.TRAIN, False, self.rank, self.world)
        return self.run(layer, bottoms, self.params_of(name), context)

    def loss(self, blobs: dict[str, Tensor]) -> Tensor:
        """The weighted sum of all losses; raises `NetError` if the net has none."""
        if not self.loss_weights:
            raise NetError(f"The net {self.name!r} has no loss, so it can't be trained.")
        return torch.stack([blobs[top].sum() * w for top, w in self.loss_weights.items()]).sum()

    def learnable(self) -> Iterator[tuple[str, int, nn.Parameter, pb.ParamSpec]]:
        """(layer, index, parameter, its rates) in Caffe's order, each shared parameter once."""
        seen: set[int] = set()
        for name, blobs in self.blobs.items():
            for i, blob in enumerate(blobs):
                if id(blob) not in seen:
                    seen.add(id(blob))
                    yield name, i, blob, self.specs[name][i]  # type: ignore[misc]  # all are Parameters

    def load(self, source: weights.Weights, names: Sequence[str] | None = None) -> None:
        """Copy blobs by layer name: the layers `names`, or all that both sides have.

        Raises `WeightsError` for blobs of other shapes.
        """
        for name in self.blobs if names is None else names:
            if name not in source:
                continue
            wanted, given = self._shapes[name], [np.asarray(b) for b in source[name]]
            if len(wanted) != len(given) or not all(
                weights.fits(b.shape, s) for b, s in zip(given, wanted, strict=True)
            ):
                raise WeightsError(
                    f"Layer {name!r} has blobs of the shapes {[b.shape for b in given]} in the weights, "
                    f"but {wanted} in the net. Use the net's own weights, or rename the layer."
                )
            for blob, array in zip(self.blobs[name], given, strict=True):
                # PyTorch takes no array that may not be written to.
                values = np.require(array, requirements=["C", "W"]).reshape(tuple(blob.shape))
                with torch.no_grad():
                    blob.copy_(torch.from_numpy(values))

    def to_proto(self) -> pb.NetParameter:
        """Names, types and blobs of the layers that learn, as a caffemodel holds them."""
        kinds = {x.name: x.type for x in self.layers}
        return weights.to_net(
            self.name,
            (
                (n, kinds[n], [b.detach().cpu().numpy() for b in self.params_of(n)])
                for n in self.blobs
            ),
        )


def _is_trained(layer: pb.LayerParameter, spec: pb.ParamSpec) -> bool:
    return spec.lr_mult != 0 and layer.type != "BatchNorm"


def _shared(
    name: str, shape: shapes.Shape, spec: pb.ParamSpec, owner: str, param: nn.Parameter
) -> nn.Parameter:
    """The parameter that another layer made; raises `NetError` unless it fits this one."""
    permissive = spec.share_mode == pb.ParamSpec.PERMISSIVE
    if tuple(param.shape) != shape and not (permissive and param.numel() == shapes.count(shape)):
        raise NetError(
            f"Layer {name!r} shares the parameter {spec.name!r} of layer {owner!r}, whose shape is "
            f"{tuple(param.shape)}, but its own is {shape}. With share_mode: PERMISSIVE equally many "
            "values are enough."
        )
    if spec.HasField("lr_mult") and spec.lr_mult == 0:
        param.requires_grad_(False)
    return param


def _safe_in_place(layers: Sequence[pb.LayerParameter]) -> set[int]:
    """Layers that may overwrite their bottom. Nobody else reads it: `wiring.check` sees to that."""
    writer: dict[str, str] = {}
    safe = set()
    for i, layer in enumerate(layers):
        if list(layer.bottom) == list(layer.top) and writer.get(layer.top[0]) in _FRESH:
            safe.add(i)
        writer |= dict.fromkeys(layer.top, layer.type)
    return safe


def _with_scale(layers: Sequence[pb.LayerParameter]) -> set[int]:
    """BatchNorms that the next layer scales by channel, in place: one kernel does both.

    Of what is in between nobody reads anything, and it takes a third of a ResNet's memory.
    """
    out = set()
    for i, (norm, scale) in enumerate(pairwise(layers)):
        p = scale.scale_param
        if (
            (norm.type, scale.type) == ("BatchNorm", "Scale")
            and list(norm.top) == list(scale.bottom) == list(scale.top)
            and (p.axis, p.num_axes) == (1, 1)
            and all(scale.propagate_down)
        ):
            out.add(i)
    return out
