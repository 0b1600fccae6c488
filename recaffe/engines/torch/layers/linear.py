"""Products with a layer's matrix, on CPUs by oneDNN.

PyTorch multiplies matrices on CPUs by MKL, which on processors that aren't Intel's is slow where one side is
a batch of few rows. CaffeNet's fc6 (9,216 to 4,096 values), two cores of a Zen 4, milliseconds forward and
backward: 19 and 33 by MKL, 10 and 24 by oneDNN at batch 16; 39 and 75, 26 and 52 at batch 64.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

_LEAST = 2**16  # weights; for fewer, what oneDNN needs to begin is more than it saves


def linear(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """x Wᵀ + b, as `F.linear`: x of …×in, `weight` of out×in, which may be a transposed view."""
    if _is_for_onednn(x, weight):
        return OneDnnLinear.apply(x, weight, bias)
    return F.linear(x, weight, bias)


def _is_for_onednn(x: Tensor, weight: Tensor) -> bool:
    return (
        not torch.compiler.is_compiling()
        and x.device.type == "cpu"
        and x.dtype == weight.dtype == torch.float32
        and x.dim() == 2
        and x.numel() > 0
        and weight.numel() >= _LEAST
        and torch.backends.mkldnn.is_available()
        and not torch.is_autocast_enabled("cpu")
    )


class OneDnnLinear(torch.autograd.Function):
    """That product and its gradients."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """Keeps both factors."""
        ctx.save_for_backward(x, weight)
        return _product(x, weight, bias)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        """Of those that are wanted: grad W, gradᵀ x, and the sum over rows."""
        x, weight = ctx.saved_tensors
        of_x, of_weight, of_bias = ctx.needs_input_grad
        grad = grads[0]
        return (
            _product(grad, weight.t()) if of_x else None,
            _product(grad.t(), x.t()) if of_weight else None,
            grad.sum(0) if of_bias else None,
        )


def _product(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """What PyTorch's own compiler makes of F.linear on CPUs."""
    return torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")
