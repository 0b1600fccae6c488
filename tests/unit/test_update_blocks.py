"""Blocks in which parameters are updated: all of them once, and the same bits as of whole ones."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from recaffe import solver
from recaffe.engines.torch import solvers
from recaffe.engines.torch.blocks import blocks
from recaffe.engines.torch.net import Net
from recaffe.engines.torch.solvers import make_solver
from recaffe.net.parse import to_net
from recaffe.net.prototxt import parse
from recaffe.proto import caffe_pb2 as pb

SHAPES = st.lists(st.lists(st.integers(1, 6), max_size=4).map(tuple), max_size=6)


@given(SHAPES, st.integers(1, 3), st.integers(1, 60), st.booleans())
def test_all_values_are_in_one_block_each_and_beside_their_own(
    shapes: list[tuple[int, ...]], columns: int, values: int, last: bool
) -> None:
    first = [torch.zeros(shape) for shape in shapes]
    if last:
        first = [
            t.contiguous(memory_format=torch.channels_last) if t.dim() == 4 else t for t in first
        ]
    # The other columns lie in memory as they like: the blocks are of places, not of addresses.
    all_columns = [first, *([torch.zeros(s) for s in shapes] for _ in range(columns - 1))]
    for number, block in enumerate(blocks(all_columns, values), 1):
        assert len(block) == columns
        rows = [t[0].numel() if t.dim() else 1 for t in block[0]]
        assert sum(t.numel() for t in block[0]) <= max(values, *rows)
        for column in block:
            for part in column:
                assert not part.any(), "a value is in two blocks"
                part += number
    for column in all_columns[1:]:
        assert all(map(torch.equal, first, column))
    assert all((t > 0).all() for t in first)


def test_nothing_makes_no_block() -> None:
    assert not list(blocks([[], []]))


def test_what_lies_elsewhere_than_in_a_cpus_memory_is_not_cut() -> None:
    column = [torch.zeros(100, device="meta"), torch.zeros(3, device="meta")]
    assert list(blocks([column, column], 10)) == [[column, column]]


NET = """
layer { name: "c" type: "Convolution" bottom: "data" top: "c"
  convolution_param { num_output: 10 kernel_size: 3 } }
layer { name: "i" type: "InnerProduct" bottom: "c" top: "i" inner_product_param { num_output: 7 } }
"""


@pytest.mark.parametrize("kind", solver.TYPES)
@settings(max_examples=15, deadline=None)
@given(
    st.integers(1, 200),
    st.sampled_from(["L1", "L2"]),
    st.sampled_from([-1, 0.5]),
    st.integers(1, 2),
    st.integers(0, 2**32),
)
def test_updates_in_blocks_have_the_bits_of_those_of_whole_parameters(
    kind: str, values: int, penalty: str, clip: float, iter_size: int, seed: int
) -> None:
    p = pb.SolverParameter(
        type=kind, lr_policy="fixed", base_lr=0.1, weight_decay=0.01, regularization_type=penalty,
        clip_gradients=clip, iter_size=iter_size, delta=0.01,
    )  # fmt: skip
    if kind not in ("AdaGrad", "RMSProp"):
        p.momentum = 0.9
    ends = []
    for size in (values, 10**9):
        net = Net(to_net(parse(NET, "net")), pb.TRAIN, {"data": (1, 3, 6, 5)})
        generator = torch.Generator().manual_seed(seed)
        ours = make_solver(net, p)
        with torch.no_grad(), pytest.MonkeyPatch.context() as patch:
            patch.setattr(solvers, "blocks", lambda columns, size=size: blocks(columns, size))
            for w in ours.params:
                w.copy_(torch.randn(w.shape, generator=generator))
            for iteration in range(3):
                for w in ours.params:
                    w.grad = torch.randn(w.shape, generator=generator)
                ours.step(0.1, iteration)
        ends.append([*ours.params, *ours.history])
    assert all(map(torch.equal, *ends))
    assert all(t.any() for t in ends[0])
