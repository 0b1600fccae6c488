"""Losses and measures, computed in float32 at least, with Caffe's gradients.

Where Caffe's gradient isn't the loss's own (it ignores the floor under a logarithm, or adds an
epsilon), a layer has its own backward pass.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from google.protobuf.message import DecodeError
from torch import Tensor

from recaffe.engines.torch.layers.base import Context, by_class, wide
from recaffe.engines.torch.layers.labels import check, integers
from recaffe.errors import NetError
from recaffe.net.blobs import from_blob
from recaffe.proto import caffe_pb2 as pb

FLT_MIN = 1.17549435e-38  # -log of it is the 87.3365 of a diverged net
LOG_FLOOR = 1e-20
# The losses that loss_param may tell what to divide by.
NORMALIZED = ("SoftmaxWithLoss", "SigmoidCrossEntropyLoss", "InfogainLoss")
_EPS = 1e-4  # what ContrastiveLoss adds to a distance before it divides by it


def softmax(
    layer: pb.LayerParameter, x: list[Tensor], w: Sequence[Tensor], _: Context
) -> list[Tensor]:
    """Probabilities along an axis."""
    return [F.softmax(wide(x[0]), layer.softmax_param.axis)]


def softmax_loss(
    layer: pb.LayerParameter, x: list[Tensor], w: Sequence[Tensor], _: Context
) -> list[Tensor]:
    """Mean of -log p(label) over all labels but the ignored, and the probabilities as a second top."""
    scores = by_class(wide(x[0]), layer.softmax_param.axis)
    labels, valid = _labels(layer, x[1], scores)
    by = _divisor(layer, scores.shape[0], labels, valid)
    total, prob = SoftmaxLoss.apply(scores, labels, valid)
    return [total / by, prob.reshape(x[0].shape)][: max(1, len(layer.top))]


class SoftmaxLoss(torch.autograd.Function):
    """Σ -log p(label) over outer × classes × inner scores, and p. The floor under p bounds the loss,
    not the gradient."""

    @staticmethod
    def forward(
        ctx: Any, scores: Tensor, labels: Tensor, valid: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Keeps the probabilities."""
        prob = F.softmax(scores, 1)
        logs = prob.gather(1, labels[:, None])[:, 0].clamp_min(FLT_MIN).log()
        ctx.save_for_backward(prob, labels, valid)
        ctx.mark_non_differentiable(prob)
        return -(logs if valid is None else logs.where(valid, 0)).sum(), prob

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        """p, less 1 at the label."""
        prob, labels, valid = ctx.saved_tensors
        at = labels[:, None]
        grad = prob.scatter(1, at, prob.gather(1, at) - 1).mul_(grads[0])
        if valid is not None:
            grad.mul_(valid[:, None])
        return grad, None, None


def infogain_loss(
    layer: pb.LayerParameter, x: list[Tensor], w: Sequence[Tensor], _: Context
) -> list[Tensor]:
    """Mean of -Σ H(label, l) log p(l) over all labels l, and the probabilities as a second top."""
    scores = by_class(wide(x[0]), layer.infogain_loss_param.axis)
    classes = scores.shape[1]
    matrix = x[2] if len(x) > 2 else infogain_matrix(layer, classes).to(scores)
    labels, valid = _labels(layer, x[1], scores)
    by = _divisor(layer, scores.shape[0], labels, valid)
    total, prob = InfogainLoss.apply(scores, labels, valid, matrix.reshape(classes, classes))
    return [total / by, prob.reshape(x[0].shape)][: max(1, len(layer.top))]


class InfogainLoss(torch.autograd.Function):
    """SoftmaxLoss with a matrix in the place of the identity."""

    @staticmethod
    def forward(
        ctx: Any, scores: Tensor, labels: Tensor, valid: Tensor | None, matrix: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Keeps the probabilities, and each label's row of the matrix."""
        prob = F.softmax(scores, 1)
        rows = matrix[labels].movedim(2, 1)
        if valid is not None:
            rows = rows * valid[:, None]
        ctx.save_for_backward(prob, rows)
        ctx.mark_non_differentiable(prob)
        return -(rows * prob.clamp_min(LOG_FLOOR).log()).sum(), prob

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        """p Σ H(label, l) - H(label, ·)."""
        prob, rows = ctx.saved_tensors
        return (prob * rows.sum(1, keepdim=True) - rows) * grads[0], None, None, None


def infogain_matrix(layer: pb.LayerParameter, classes: int) -> Tensor:
    """The matrix that a layer names; raises `NetError` unless it is a binaryproto of classes²."""
    path = layer.infogain_loss_param.source
    try:
        matrix = _read_matrix(path, Path(path).stat().st_mtime_ns)
    except (OSError, DecodeError) as error:
        raise NetError(
            f"Layer {layer.name!r}: its matrix {path} can't be read as a binaryproto ({error})."
        ) from error
    if matrix.numel() != classes**2:
        raise NetError(
            f"Layer {layer.name!r}: its matrix {path} has {matrix.numel()} values, not "
            f"{classes}×{classes}."
        )
    return matrix


@lru_cache(maxsize=8)
def _read_matrix(path: str, mtime: int) -> Tensor:
    blob = pb.BlobProto()
    blob.ParseFromString(Path(path).read_bytes())
    return torch.from_numpy(from_blob(blob, path))


def sigmoid_cross_entropy_loss(
    layer: pb.LayerParameter, x: list[Tensor], w: Sequence[Tensor], _: Context
) -> list[Tensor]:
    """-t log σ(x) - (1 - t) log(1 - σ(x)), summed, over the number of pictures if nothing is said."""
    p, scores = layer.loss_param, wide(x[0])
    targets = x[1].reshape(scores.shape).to(scores.dtype)
    each = F.binary_cross_entropy_with_logits(scores, targets, reduction="none")
    valid = None
    if p.HasField("ignore_label"):
        valid = targets.trunc() != p.ignore_label
        each = each.where(valid, 0)
    return [each.sum() / _divisor(layer, scores.shape[0], targets, valid)]


def hinge_loss(
    layer: pb.LayerParameter, x: list[Tensor], w: Sequence[Tensor], _: Context
) -> list[Tensor]:
    """Σ max(0, 1 - y x) with y = 1 for the label and -1 for all others, or Σ of squares; the mean
    over pictures."""
    scores = wide(x[0]).flatten(1)
    labels, _valid = _labels(layer, x[1], scores[:, :, None])
    sign = torch.ones_like(scores).scatter_(1, labels.reshape(-1, 1), -1)
    margin = F.relu(1 + sign * scores)
    if layer.hinge_loss_param.norm == pb.HingeLossParameter.L2:
        margin = margin.square()
    return [margin.sum() / scores.shape[0]]


def euclidean_loss(
    layer: pb.LayerParameter, x: list[Tensor], w: Sequence[Tensor], _: Context
) -> list[Tensor]:
    """Half the squared distance, the mean over pictures."""
    a, b = wide(x[0]), wide(x[1])
    return [(a - b.reshape(a.shape)).square().sum() / (2 * a.shape[0])]


def multinomial_logistic_loss(
    layer: pb.LayerParameter, x: list[Tensor], w: Sequence[Tensor], _: Context
) -> list[Tensor]:
    """-log of the label's probability, the mean over pictures."""
    prob = wide(x[0]).flatten(1)
    labels, _valid = _labels(layer, x[1], prob[:, :, None])
    own = prob.gather(1, labels.reshape(-1, 1))
    # The floor is under the value; the gradient divides by it, too, but doesn't vanish.
    own = own + (own.clamp_min(LOG_FLOOR) - own).detach()
    return [-own.log().sum() / prob.shape[0]]


def contrastive_loss(
    layer: pb.LayerParameter, x: list[Tensor], w: Sequence[Tensor], _: Context
) -> list[Tensor]:
    """Pairs that are alike: d². Others: max(0, margin - d)², or max(0, margin - d²) in the legacy
    form. Half of it, the mean over pairs."""
    p = layer.contrastive_loss_param
    a, b = wide(x[0]), wide(x[1])
    same = x[2].reshape(-1).trunc() != 0
    difference = (a - b).flatten(1)
    return [ContrastiveLoss.apply(difference, same, p.margin, p.legacy_version)]


class ContrastiveLoss(torch.autograd.Function):
    """The loss of pairs' differences, N×C; its gradient divides by d + 1e-4, as Caffe's."""

    @staticmethod
    def forward(ctx: Any, difference: Tensor, same: Tensor, margin: float, legacy: bool) -> Tensor:
        """Keeps the differences and what each counts for."""
        square = difference.square().sum(1)
        if legacy:
            room = (margin - square).clamp_min(0)
            apart, slope = room, -(room > 0).to(square.dtype)
        else:
            distance = square.sqrt()
            room = (margin - distance).clamp_min(0)
            apart, slope = room.square(), -room / (distance + _EPS)
        factor = torch.where(same, torch.ones_like(slope), slope) / difference.shape[0]
        ctx.save_for_backward(difference, factor)
        return torch.where(same, square, apart).sum() / (2 * difference.shape[0])

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        """The differences, each times its factor."""
        difference, factor = ctx.saved_tensors
        return difference * factor[:, None] * grads[0], None, None, None


def accuracy(
    layer: pb.LayerParameter, x: list[Tensor], w: Sequence[Tensor], _: Context
) -> list[Tensor]:
    """The share of labels among the top_k scores, and by class as a second top.

    A label counts as the last of all that score the same: ties beyond top_k are misses.
    """
    p = layer.accuracy_param
    scores = by_class(x[0].detach(), p.axis)
    labels, valid = _labels(layer, x[1], scores)
    own = scores.gather(1, labels[:, None])
    hit = (scores >= own).sum(1) - 1 < p.top_k
    if valid is not None:
        hit = hit & valid
    seen = float(hit.numel()) if valid is None else valid.sum().clamp_min(1)
    total = hit.sum(dtype=torch.float32) / seen
    if len(layer.top) < 2:
        return [total]
    classes = scores.shape[1]
    every = (labels if valid is None else labels[valid]).reshape(-1)
    counts = torch.bincount(every, minlength=classes).float()
    right = torch.bincount(labels[hit], minlength=classes).float()
    return [total, right / counts.clamp_min(1)]


def _labels(
    layer: pb.LayerParameter, labels: Tensor, scores: Tensor
) -> tuple[Tensor, Tensor | None]:
    """Labels as outer × inner integers, 0 where ignored; and where they are not, if any can be.

    Raises `DataError` for a label that is no class, where that costs nothing to see.
    """
    found, valid = integers(layer, labels.reshape(scores.shape[0], -1))
    check(layer, found, scores.shape[1])
    return found, valid


def normalization(layer: pb.LayerParameter) -> int:
    """What a loss layer divides its sum by, as its LayerSetUp decides."""
    p = layer.loss_param
    if layer.type not in NORMALIZED:
        return pb.LossParameter.BATCH_SIZE
    if p.HasField("normalization"):
        return p.normalization
    if p.HasField("normalize"):
        return pb.LossParameter.VALID if p.normalize else pb.LossParameter.BATCH_SIZE
    if layer.type == "SigmoidCrossEntropyLoss":
        return pb.LossParameter.BATCH_SIZE
    return pb.LossParameter.VALID


def _divisor(
    layer: pb.LayerParameter, outer: int, labels: Tensor, valid: Tensor | None
) -> float | Tensor:
    """That number; `valid` says where labels aren't ignored, if any can be."""
    mode = normalization(layer)
    if mode == pb.LossParameter.VALID and valid is not None:
        return valid.sum().clamp_min(1)
    if mode == pb.LossParameter.NONE:
        return 1.0
    return float(outer if mode == pb.LossParameter.BATCH_SIZE else math.prod(labels.shape))
