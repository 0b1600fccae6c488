"""One net in both engines, and how far apart they are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor

from recaffe.engines.torch.layers import Context
from recaffe.engines.torch.net import Net
from recaffe.engines.torch.precision import run_layer
from recaffe.net import parse
from recaffe.net.prototxt import parse as parse_text
from recaffe.proto import caffe_pb2 as pb
from tests.parity.caffe_client import Answer, Arrays, Caffe
from tests.parity.draw import Case

FORWARD, BACKWARD = 1e-5, 1e-4


@dataclass
class Row:
    """Worst errors of one layer or net over all its examples."""

    what: str
    forward: float = 0.0
    backward: float | None = None
    compared: int = 0


@dataclass
class Table:
    """What all tests of this run measured."""

    _rows: dict[str, Row] = field(default_factory=dict)

    def add(self, what: str, forward: float, backward: float | None, compared: int = 1) -> None:
        """Keep the worst."""
        row = self._rows.setdefault(what, Row(what))
        row.forward = max(row.forward, forward)
        if backward is not None:
            row.backward = max(row.backward or 0.0, backward)
        row.compared += compared

    def rows(self) -> list[Row]:
        """In alphabetical order."""
        return [self._rows[k] for k in sorted(self._rows)]


TABLE = Table()


def read(text: str) -> pb.NetParameter:
    """A net from prototxt text, brought up to date."""
    return parse.to_net(parse_text(text))


def error(ours: np.ndarray, theirs: np.ndarray) -> float:
    """Greatest difference, relative to the greatest magnitude; infinite if the shapes differ."""
    if ours.shape != theirs.shape:
        return float("inf")
    if theirs.size == 0:
        return 0.0
    if not (np.isfinite(ours) == np.isfinite(theirs)).all():
        return float("inf")
    scale = max(float(np.abs(theirs).max()), 1e-30)
    return float(np.abs(ours.astype(np.float64) - theirs).max()) / scale


def ours(
    net: pb.NetParameter,
    phase: str,
    blobs: Arrays,
    params: dict[str, list[np.ndarray]],
    diffs: Arrays,
    dtype: torch.dtype = torch.float32,
    passes: int = 1,
) -> Answer:
    """What recaffe computes: the counterpart of `Caffe.run`, all data differentiated."""
    built = Net(net, pb.Phase.Value(phase), {k: v.shape for k, v in blobs.items()})
    built.load(params)
    built.to(dtype)
    inputs = {k: torch.from_numpy(v).to(dtype) for k, v in blobs.items()}
    with torch.no_grad():
        for _ in range(passes - 1):
            built(inputs)
    for value in inputs.values():
        value.requires_grad_()
    made: dict[str, Tensor] = {}

    def keep_first(
        layer: pb.LayerParameter, bottoms: list[Tensor], weights: Sequence[Tensor], context: Context
    ) -> list[Tensor]:
        tops = run_layer(layer, bottoms, weights, replace(context, in_place=False))
        # Caffe's gradient of a blob that is worked on in place is that of its first version.
        for name, top in zip(layer.top, tops, strict=True):
            if name not in made and top.requires_grad:
                top.retain_grad()
                made[name] = top
        return tops

    built.run = keep_first
    everything = built(inputs)
    terms = [(everything[k], torch.from_numpy(v).to(dtype)) for k, v in diffs.items()]
    losses = built.loss_weights
    terms += [(everything[k], torch.full_like(everything[k], w)) for k, w in losses.items()]
    terms = [(t, g) for t, g in terms if t.requires_grad]
    if terms:
        torch.autograd.backward([t for t, _ in terms], [g for _, g in terms])
    loss = sum(float(everything[k].detach().sum()) * w for k, w in losses.items())
    return Answer(
        loss,
        built.outputs,
        {k: v.detach().numpy() for k, v in everything.items()},
        {k: _grad(v) for k, v in {**made, **inputs}.items()},
        {k: [b.detach().numpy() for b in v] for k, v in built.blobs.items()},
        {k: [_grad(b) for b in v] for k, v in built.blobs.items()},
    )


def _grad(tensor: Tensor) -> np.ndarray:
    return (torch.zeros_like(tensor) if tensor.grad is None else tensor.grad).numpy()


def check(
    caffe: Caffe,
    what: str,
    case: Case,
    seed: int = 0,
    forward: float = FORWARD,
    backward: float = BACKWARD,
) -> None:
    """Run a net in both engines with the same numbers; fail if they are further apart than allowed.

    Compares every blob, every parameter, and the gradients of parameters and of inputs (or of the
    blobs that the case names). Outputs that are no losses start backward with random gradients.
    """
    rng = np.random.default_rng(seed)
    net = read(case.text())
    template = Net(net, pb.Phase.Value(case.phase), {k: v.shape for k, v in case.blobs.items()})
    params = case.params or {
        name: [rng.normal(0, 0.5, b.shape).astype(np.float32) for b in values]
        for name, values in template.blobs.items()
    }
    shapes = {t: s for w in template.walked for t, s in zip(w.layer.top, w.tops, strict=True)}
    diffs = {
        name: rng.normal(0, 1, shapes[name]).astype(np.float32)
        for name in template.outputs
        if name not in template.loss_weights and case.backward and case.force_backward
    }
    theirs = caffe.run(
        case.text(), case.phase, case.blobs, params, diffs, case.backward, case.passes
    )
    mine = ours(net, case.phase, case.blobs, params, diffs, passes=case.passes)
    errors = {name: error(mine.blobs[name], theirs.blobs[name]) for name in mine.blobs}
    for name, values in mine.params.items():
        for i, (a, b) in enumerate(zip(values, theirs.params[name], strict=True)):
            errors[f"{name}[{i}]"] = error(a, b)
    gradients: dict[str, float] = {}
    if case.backward:
        named = case.gradients
        if named is None:
            named = tuple(n for n in case.blobs if n != "label")
        gradients = {f"d {n}": error(mine.diffs[n], theirs.diffs[n]) for n in named}
        for name, values in mine.param_diffs.items():
            for i, (a, b) in enumerate(zip(values, theirs.param_diffs[name], strict=True)):
                if template.blobs[name][i].requires_grad:
                    gradients[f"d {name}[{i}]"] = error(a, b)
    TABLE.add(what, max(errors.values()), max(gradients.values()) if gradients else None)
    too_far = {k: v for k, v in errors.items() if not v <= forward}
    too_far |= {k: v for k, v in gradients.items() if not v <= backward}
    assert not too_far, f"{too_far} in\n{case.text()}"
