"""Grad-CAM: which places of a picture speak for a class.

Source: Selvaraju et al. 2017, "Grad-CAM: Visual Explanations from Deep Networks via Gradient-based
Localization". A blob's channels A_k are added up, each weighted by the mean over space of the gradient
of the class's score (before the softmax), and what is below 0 is cut off.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from torch import Tensor

from recaffe.engines.torch.layers import Context
from recaffe.engines.torch.net import Net
from recaffe.engines.torch.precision import run_layer
from recaffe.errors import NetError
from recaffe.net import graph
from recaffe.net.shapes import LayerShapes
from recaffe.proto import caffe_pb2 as pb

# What lies above the features and only makes them coarser, or in the test does nothing.
_COARSER = frozenset({"Pooling", "Dropout", "Split"})
_FEATURES = frozenset({"Convolution", "Deconvolution"})
_STRENGTH = 0.7  # how much of the picture the hottest place hides


@dataclass(frozen=True)
class View:
    """The blob that is looked at, the top `top` of the layer `layer`, and the scores: `score` is the
    layer that makes them, `score_top` which of its tops they are."""

    layer: str
    top: int
    score: str
    score_top: int


def view(net: Net) -> View:
    """Which blob of a deploy net its maps are made of: the last one below the scores that has places.

    That is a blob larger than 1×1 in space and behind a convolution; where pooling made it, what was
    pooled, as the paper takes VGG's conv5_3 and not its pool5. In-place layers count (conv5 behind
    its ReLU), and modules end in one blob: Inception's concat, ResNet's sum, DenseNet's last norm.

    Where the classifier itself is a convolution under a global average (SqueezeNet, NiN), it is the
    classifier's maps. Their averages are the scores, so the class's own map is exact: each place has
    what it adds to the score. Features below would only estimate that.

    Raises `NetError` where there is none, as in a net of inner products alone.
    """
    layers = [s.layer for s in net.walked]
    index, blob = _scores(layers, net.outputs[-1])
    below = sorted(graph.ancestors(layers, index), reverse=True)
    found = {(index, blob)}
    for i in below:
        bottoms = layers[i].bottom[:1] if layers[i].type == "Crop" else layers[i].bottom
        found |= {x for b in bottoms if (x := _maker(layers, i, b)) is not None}
    for i, name in sorted(found, reverse=True):
        place: tuple[int, str] | None = (i, name)
        if not _has_places(net.walked, i, name):
            continue
        while place is not None and layers[place[0]].type in _COARSER:
            i, name = place
            place = _maker(layers, i, layers[i].bottom[0])
        if place is not None and _is_of_features(layers, place[0]):
            i, name = place
            return View(
                layers[i].name, list(layers[i].top).index(name),
                layers[index].name, list(layers[index].top).index(blob),
            )  # fmt: skip
    raise NetError(
        f"The net {net.name!r} has no heat maps: below its scores no blob of a convolution is larger "
        "than 1×1, so nothing in it belongs to a place of the picture."
    )


@torch.enable_grad()
def maps(net: Net, blob: Tensor, classes: int | Sequence[int] | None = None) -> np.ndarray:
    """For each picture of `blob` (N×C×H×W, as the net's input takes it) where it looks like a class.

    `classes` is one class for all, one a picture, or None for the one that each scores best in.
    Returns float32 N×h×w, of the size of the `view`: 1 is a picture's hottest place, 0 is what
    speaks for nothing or against. So maps tell of places, not of how sure the net is; and a map is 0
    all over where nothing speaks for the class. Nothing of the net changes.

    Raises `NetError` for a net without `view` or without such a class.
    """
    seen = view(net)
    scores, features = _pass(net, seen, blob)
    n, count = scores.shape
    rows = scores.argmax(1) if classes is None else torch.as_tensor(classes).expand(n)
    rows = rows.to(scores.device, torch.int64)
    if rows.numel() and not 0 <= int(rows.min()) <= int(rows.max()) < count:
        raise NetError(f"There are {count} classes, 0 to {count - 1}; {classes} isn't among them.")
    # Rows depend on their own picture alone, so the sum's gradient is each one's.
    (slope,) = torch.autograd.grad(scores.gather(1, rows[:, None]).sum(), features)
    weights = slope.mean((2, 3), keepdim=True)
    heat = (weights * features.detach()).sum(1).clamp_(min=0)
    most = heat.amax((1, 2), keepdim=True)
    heat = torch.where(most > 0, heat / most, torch.zeros_like(heat))
    return heat.float().cpu().numpy()


def overlay(rgb: np.ndarray, heat: np.ndarray, strength: float = _STRENGTH) -> np.ndarray:
    """A picture (uint8 H×W×3) under its map (h×w, 0..1), enlarged to it: uint8 H×W×3.

    The hotter, the brighter and the less transparent (`strength` at most); what is cold stays as it is.
    """
    height, width = rgb.shape[:2]
    large = enlarge(heat, height, width)
    colours = cv2.applyColorMap(np.rint(large * 255).astype(np.uint8), cv2.COLORMAP_INFERNO)
    share = (strength * large)[:, :, None]
    mixed = rgb * (1 - share) + colours[:, :, ::-1] * share
    return np.rint(mixed).astype(np.uint8)


def enlarge(heat: np.ndarray, height: int, width: int) -> np.ndarray:
    """A map as float32 height×width, in 0..1, linear between the middles of its places, as in the paper."""
    large = cv2.resize(heat.astype(np.float32), (width, height), interpolation=cv2.INTER_LINEAR)
    return np.clip(large, 0, 1)


def _pass(net: Net, seen: View, blob: Tensor) -> tuple[Tensor, Tensor]:
    """The scores, N×K, and the viewed blob, from which on gradients are known."""
    kept: dict[str, Tensor] = {}

    def run(
        layer: pb.LayerParameter, bottoms: list[Tensor], params: Sequence[Tensor], context: Context
    ) -> list[Tensor]:
        with torch.set_grad_enabled("features" in kept):
            tops = run_layer(layer, bottoms, params, context)
        if layer.name == seen.layer:
            kept["features"] = tops[seen.top].detach().clone().requires_grad_()
            # A copy, since the next layer may work in place.
            tops[seen.top] = kept["features"].clone()
        if layer.name == seen.score:
            kept["scores"] = tops[seen.score_top].clone()
        return tops

    source = next(s.layer for s in net.walked if s.layer.type == "Input")
    before, net.run = net.run, run
    try:
        net({source.top[0]: blob}, until=seen.score)
    finally:
        net.run = before
    scores = kept["scores"]
    if scores.dim() == 4:  # as the scorer does
        scores = scores.mean((2, 3))
    return scores.reshape(len(blob), -1), kept["features"]


def _scores(layers: Sequence[graph.Layer], output: str) -> tuple[int, str]:
    """The layer and blob of the scores: the net's output, or what its Softmax makes it of."""
    made = _maker(layers, len(layers), output)
    while made is not None and layers[made[0]].type in ("Softmax", "Split"):
        made = _maker(layers, made[0], layers[made[0]].bottom[0])
    if made is None:
        raise NetError(f"The blob {output!r} isn't made by a layer, so the net has no scores.")
    return made


def _maker(layers: Sequence[graph.Layer], index: int, blob: str) -> tuple[int, str] | None:
    """The last layer before `index` that makes the blob."""
    found = (i for i in range(index - 1, -1, -1) if blob in layers[i].top)
    return next(((i, blob) for i in found), None)


def _has_places(walked: Sequence[LayerShapes], index: int, blob: str) -> bool:
    shape = walked[index].tops[list(walked[index].layer.top).index(blob)]
    return len(shape) == 4 and shape[2] * shape[3] > 1


def _is_of_features(layers: Sequence[graph.Layer], index: int) -> bool:
    return any(layers[i].type in _FEATURES for i in graph.ancestors(layers, index))
