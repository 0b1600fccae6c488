"""Inner products by oneDNN: the values and gradients of the definition, of whatever strides and sizes."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from recaffe.engines.torch.layers import linear as module
from recaffe.engines.torch.layers.linear import OneDnnLinear, linear


@settings(max_examples=60, deadline=None)
@given(
    st.integers(1, 70), st.integers(1, 400), st.integers(1, 300),
    st.booleans(), st.booleans(), st.booleans(), st.integers(0, 2**31),
)  # fmt: skip
def test_values_and_gradients_are_those_of_float64(
    rows: int, inputs: int, outputs: int, transposed: bool, bias: bool, same: bool, seed: int
) -> None:
    torch.manual_seed(seed)
    x = torch.randn(rows, inputs, requires_grad=True)
    matrix = torch.randn((inputs, outputs) if transposed else (outputs, inputs), requires_grad=True)
    added = torch.randn(outputs, requires_grad=True) if bias else None
    wanted = [t for t in (x, matrix, added) if t is not None]
    # The same gradient everywhere is one number in memory, read with strides of 0.
    weight = torch.ones(()).expand(rows, outputs) if same else torch.randn(rows, outputs)

    def both(x: Tensor, matrix: Tensor, added: Tensor | None, exact: bool) -> list[Tensor]:
        view = matrix.t() if transposed else matrix
        out = F.linear(x, view, added) if exact else OneDnnLinear.apply(x, view, added)
        return [out, *torch.autograd.grad(out, wanted, weight.to(out.dtype))]

    exact = both(x.double(), matrix.double(), None if added is None else added.double(), True)
    for found, value in zip(both(x, matrix, added, False), exact, strict=True):
        # Sums of at most 400 products of normal numbers.
        torch.testing.assert_close(found.double(), value.double(), rtol=0, atol=1e-4)


def test_only_wanted_gradients_are_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    products = []
    product = module._product
    monkeypatch.setattr(module, "_product", lambda *a: products.append(a) or product(*a))
    x, weight = torch.randn(4, 300), torch.randn(300, 300, requires_grad=True)
    linear(x, weight, None).sum().backward()
    assert len(products) == 2, "forward, and the weights'"
    assert weight.grad is not None


@pytest.mark.parametrize(
    ("x", "weight"),
    [
        (torch.randn(4, 300, dtype=torch.float64), torch.randn(300, 300, dtype=torch.float64)),
        (torch.randn(2, 4, 300), torch.randn(300, 300)),
        (torch.randn(0, 300), torch.randn(300, 300)),
        (torch.randn(4, 30), torch.randn(20, 30)),
    ],
    ids=["float64", "three axes", "no rows", "few weights"],
)
def test_others_are_left_to_pytorch(
    x: Tensor, weight: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "OneDnnLinear", None)
    assert torch.equal(linear(x, weight, None), F.linear(x, weight))


def test_autocast_computes_in_its_own_type() -> None:
    x, weight = torch.randn(4, 300), torch.randn(300, 300)
    with torch.autocast("cpu", torch.bfloat16):
        assert linear(x, weight, None).dtype == torch.bfloat16


def test_a_compiled_net_multiplies_as_the_compiler_sees_fit() -> None:
    x, weight = torch.randn(4, 300), torch.randn(300, 300)
    compiled = torch.compile(linear, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(x, weight, None), F.linear(x, weight))
