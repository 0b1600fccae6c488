"""Mixup: each picture of a batch laid over another of it, and learned under both labels.

Source: H. Zhang et al., mixup: Beyond Empirical Risk Minimization (2018). The share is one for the
batch, drawn from Beta(α, α); partners are a permutation of the whole batch, whichever processes have its
rows. Then the loss is the sum of the losses under either label, weighted by their shares.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from recaffe.augment import Augment
from recaffe.engines.torch.data.batch import Buffers, Windows
from recaffe.engines.torch.data.transform import MIXUP, generator
from recaffe.errors import NetError
from recaffe.net import graph
from recaffe.proto import caffe_pb2 as pb

Blobs = dict[str, "Tensor | Windows | Mixed"]
# Blobs that a net doesn't see: the partners' labels, and the share of the pictures' own.
SHARE = "mixup: share"


def partners_of(label: str) -> str:
    """The blob of the partners' labels."""
    return f"mixup: {label}"


@dataclass(frozen=True)
class Mix:
    """For the rows that a process has of a batch: which records it must load, and who is whose partner.

    `rows` are places in the whole batch; `own` and `others` are indices in them.
    """

    rows: list[int]
    own: np.ndarray
    others: np.ndarray
    share: float


def draw(alpha: float, seed: int, index: int, total: int, rows: range) -> Mix:
    """How batch `index` of `total` records is mixed, as far as its `rows` are concerned."""
    rng = generator(seed, index, MIXUP, 0, 0)
    share = float(rng.beta(alpha, alpha))
    partner = rng.permutation(total)[rows.start : rows.stop]
    needed = sorted({*rows, *partner.tolist()})
    place = {row: i for i, row in enumerate(needed)}
    own = np.array([place[row] for row in rows])
    others = np.array([place[row] for row in partner.tolist()])
    return Mix(needed, own, others, share)


@dataclass(frozen=True)
class Mixed:
    """Windows of a batch's records and their partners', to be mixed when mean and scale are subtracted."""

    windows: Windows
    mix: Mix

    def floats(self, device: torch.device, buffers: Buffers) -> Tensor:
        """share × own + (1 − share) × partner's, float32 N×C×H×W on the device."""
        each = self.windows.floats(device, buffers)
        own, others = (torch.from_numpy(i).to(device) for i in (self.mix.own, self.mix.others))
        return torch.lerp(each[others], each[own], self.mix.share)


def of_step(augment: Augment | None, seed: int, index: int, total: int, rows: range) -> Mix | None:
    """How the rows of a batch are mixed, or None where nothing is."""
    return draw(augment.mixup, seed, index, total, rows) if augment and augment.mixup else None


def blobs(tops: Sequence[str], pictures: Windows, labels: Tensor, mix: Mix | None) -> Blobs:
    """The tops of a data layer, of its own rows; beside them what `Replica` weighs two losses by."""
    if mix is None:
        return dict(zip(tops, (pictures, labels), strict=False))
    data, label = tops
    return {
        data: Mixed(pictures, mix),
        label: labels[mix.own],
        partners_of(label): labels[mix.others],
        SHARE: torch.tensor(mix.share),
    }


def check(layers: Sequence[pb.LayerParameter], label: str) -> None:
    """Raises `NetError` where a net's losses can't be those of two labels."""
    for layer in layers:
        reads = label in layer.bottom
        if reads and layer.type == "Accuracy":
            continue
        if reads and (layer.type not in graph.CLASS_LOSSES or list(layer.bottom)[1] != label):
            raise NetError(
                f"mixup weighs the losses of two labels, and layer {layer.name!r} ({layer.type}) makes "
                f"something else of {label!r}. Remove mixup."
            )
        if reads and layer.loss_param.HasField("ignore_label"):
            raise NetError(
                f"mixup weighs the losses of two labels, and loss {layer.name!r} leaves out those with "
                f"ignore_label {layer.loss_param.ignore_label}. Remove one of them."
            )
