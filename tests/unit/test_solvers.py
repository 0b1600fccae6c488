"""Update rules, rates and checks of the solvers; tests/golden/solvers holds what real Caffe made."""

from __future__ import annotations

import csv
import math
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from recaffe import config, mean, solver
from recaffe.engines.torch.net import Net
from recaffe.engines.torch.solvers import Solver, learning_rate, make_solver
from recaffe.errors import ConfigError, NetError
from recaffe.net import weights
from recaffe.net.parse import read_net, to_net
from recaffe.net.prototxt import parse
from recaffe.net.state import read_state
from recaffe.proto import caffe_pb2 as pb
from tests.golden import make_solvers
from tests.golden.make_solvers import HERE, POLICIES, SOLVERS, TYPES, UPDATES
from tests.updates import Data, read_data, solver_from, updates


def relative(ours: np.ndarray, theirs: np.ndarray) -> float:
    return float(np.abs(ours - theirs).max() / max(np.abs(theirs).max(), 1e-30))


@pytest.fixture(scope="module")
def golden() -> tuple[pb.NetParameter, Data]:
    pixel_mean = mean.read(HERE / "mean.binaryproto")
    return read_net(HERE / "net.prototxt"), read_data(HERE / "warped.lmdb", 7, 0.02, pixel_mean)


@pytest.mark.parametrize("kind", TYPES)
def test_ten_updates_end_with_the_weights_and_history_of_caffe_train(
    golden: tuple[pb.NetParameter, Data], kind: str
) -> None:
    param, data = golden
    p = solver_from(make_solvers.solver(kind))
    *_, (_, _, net, ours) = updates(param, p, data, HERE / "start.caffemodel")
    theirs = weights.read(SOLVERS / f"{kind}_iter_10.caffemodel")
    state = read_state(SOLVERS / f"{kind}_iter_10.solverstate")
    assert ours.current_step(UPDATES) == state.current_step == 1
    assert len(ours.history) == len(state.history)
    for mine, blob in zip(ours.history, state.history, strict=True):
        assert relative(mine.numpy(), blob) < 1e-4
    start = weights.read(HERE / "start.caffemodel")
    for name, blobs in theirs.items():
        for mine, blob, first in zip(net.blobs[name], blobs, start[name], strict=True):
            moved = np.abs(blob - first).max()
            assert moved > 1e-4, "a layer that did not learn would compare nothing"
            assert np.abs(mine.detach().numpy() - blob).max() < 1e-4 * moved


def test_a_solverstate_of_caffe_in_hdf5_is_gone_on_from(
    golden: tuple[pb.NetParameter, Data],
) -> None:
    param, data = golden
    p = solver_from(make_solvers.solver("SGD"))
    state = SOLVERS / "SGD_iter_5.solverstate.h5"
    runs = list(updates(param, p, data, state=state))
    assert [done for done, *_ in runs] == [6, 7, 8, 9, 10]
    theirs = weights.read(SOLVERS / "SGD_iter_10.caffemodel")
    for name, blobs in theirs.items():
        for mine, blob in zip(runs[-1][2].blobs[name], blobs, strict=True):
            assert relative(mine.detach().numpy(), blob) < 1e-5


@pytest.mark.parametrize("policy", POLICIES)
def test_rates_are_those_that_caffe_prints(policy: str) -> None:
    p = solver_from(make_solvers.solver("SGD", policy=policy, updates=make_solvers.RATES))
    with (SOLVERS / "rates.csv").open() as file:
        theirs = [float(row[policy]) for row in csv.DictReader(file)]
    ours = [learning_rate(p, i) for i in range(make_solvers.RATES)]
    assert ours == pytest.approx(theirs, rel=5e-6)  # six digits are printed
    assert policy == "fixed" or len(set(theirs)) > 3


NET = """
layer { name: "a" type: "InnerProduct" bottom: "data" top: "a"
  param { lr_mult: 1 } param { lr_mult: 2 decay_mult: 0 } inner_product_param { num_output: 3 } }
layer { name: "b" type: "InnerProduct" bottom: "a" top: "b"
  param { lr_mult: 0.5 decay_mult: 3 } param { lr_mult: 0 } inner_product_param { num_output: 2 } }
"""
MULTIPLIERS = ((1, 1), (2, 0), (0.5, 3), (0, 1))


def small_net(text: str = NET) -> Net:
    net = Net(to_net(parse(text, "net")), pb.TRAIN, {"data": (1, 4)})
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for _, _, param, _ in net.learnable():
            param.copy_(torch.randn(param.shape, generator=generator))
    return net


def by_the_rule(
    p: pb.SolverParameter, w: list[np.ndarray], gradients: Sequence[list[np.ndarray]], rate: float
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Weights and history after an update for each of `gradients`, one parameter at a time."""
    w = [x.astype(np.float64) for x in w]
    h, k = [np.zeros_like(x) for x in w], [np.zeros_like(x) for x in w]
    m, m2, rms, delta = p.momentum, p.momentum2, p.rms_decay, p.delta
    for t, grads in enumerate(gradients, 1):
        norm = math.sqrt(sum(float((g.astype(np.float64) ** 2).sum()) for g in grads))
        clip = p.clip_gradients / norm if 0 <= p.clip_gradients < norm else 1.0
        for i, (lr_mult, decay_mult) in enumerate(MULTIPLIERS):
            penalty = w[i] if p.regularization_type == "L2" else np.sign(w[i])
            g = grads[i] * clip / p.iter_size + p.weight_decay * decay_mult * penalty
            local = rate * lr_mult
            if p.type in ("SGD", "Nesterov"):
                old = h[i]
                h[i] = m * old + local * g
                w[i] -= h[i] if p.type == "SGD" else (1 + m) * h[i] - m * old
            elif p.type in ("AdaGrad", "RMSProp"):
                h[i] = h[i] + g**2 if p.type == "AdaGrad" else rms * h[i] + (1 - rms) * g**2
                w[i] -= local * g / (np.sqrt(h[i]) + delta)
            elif p.type == "AdaDelta":
                h[i] = m * h[i] + (1 - m) * g**2
                change = g * np.sqrt((delta + k[i]) / (delta + h[i]))
                k[i] = m * k[i] + (1 - m) * change**2
                w[i] -= local * change
            else:
                h[i] = m * h[i] + (1 - m) * g
                k[i] = m2 * k[i] + (1 - m2) * g**2
                correction = math.sqrt(1 - m2**t) / (1 - m**t)
                w[i] -= local * correction * h[i] / (np.sqrt(k[i]) + delta)
    return w, [*h, *k] if p.type in ("AdaDelta", "Adam") else h


@st.composite
def solvers(draw: st.DrawFn) -> pb.SolverParameter:
    kind = draw(st.sampled_from(solver.TYPES))
    fraction = st.floats(0, 0.99)
    p = pb.SolverParameter(
        type=kind,
        lr_policy="fixed",
        base_lr=draw(st.floats(1e-3, 0.1)),
        weight_decay=draw(st.sampled_from([0, 0.01, 0.3])),
        regularization_type=draw(st.sampled_from(["L1", "L2"])),
        iter_size=draw(st.integers(1, 4)),
        clip_gradients=draw(st.sampled_from([-1, 0.1, 1, 100])),
        delta=draw(st.floats(1e-3, 0.1)),
        momentum2=draw(fraction),
        rms_decay=draw(fraction),
    )
    if kind not in ("AdaGrad", "RMSProp"):
        p.momentum = draw(fraction)
    return p


@settings(max_examples=150, deadline=None)
@given(solvers(), st.integers(0, 2**32), st.integers(1, 6))
def test_updates_follow_the_written_rule(p: pb.SolverParameter, seed: int, n: int) -> None:
    net, rng = small_net(), np.random.default_rng(seed)
    ours = make_solver(net, p)
    start = [w.detach().numpy().copy() for w in ours.params]
    gradients = []
    for iteration in range(n):
        grads = [rng.normal(0, 1, w.shape).astype(np.float32) for w in ours.params]
        grads[3][:] = 0  # Caffe computes no gradient of what is frozen
        gradients.append(grads)
        for w, g in zip(ours.params, grads, strict=True):
            w.grad = torch.from_numpy(g.copy()) if w.requires_grad else None
        ours.step(ours.rate(iteration), iteration)
        assert all(w.grad is None for w in ours.params)
    w, h = by_the_rule(p, start, gradients, p.base_lr)
    for mine, wanted in zip(ours.params, w, strict=True):
        assert np.abs(mine.detach().numpy() - wanted).max() < 2e-5 * max(1, np.abs(wanted).max())
    for history, wanted in zip(ours.history, h, strict=True):
        assert np.abs(history.numpy() - wanted).max() < 2e-5 * max(1, np.abs(wanted).max())


@pytest.mark.parametrize("kind", ["SGD", "Adam"])
def test_a_parameter_without_a_gradient_feels_the_penalty_all_the_same(kind: str) -> None:
    p = pb.SolverParameter(type=kind, lr_policy="fixed", base_lr=0.1, weight_decay=0.5)
    net = small_net()
    before = net.blobs["a"][0].detach().clone()
    make_solver(net, p).step(0.1, 0)
    after = net.blobs["a"][0].detach()
    assert (after.abs() < before.abs()).all()


@pytest.mark.parametrize("kind", solver.TYPES)
def test_statistics_of_batch_norm_have_a_history_but_are_not_moved(kind: str) -> None:
    net = Net(
        to_net(parse('layer { name: "n" type: "BatchNorm" bottom: "x" top: "y" }', "net")),
        pb.TRAIN,
        {"x": (2, 3, 4, 4)},
    )
    net({"x": torch.randn(2, 3, 4, 4)})
    statistics = [b.detach().clone() for b in net.blobs["n"]]
    p = pb.SolverParameter(type=kind, lr_policy="fixed", base_lr=1, weight_decay=0.5)
    ours = make_solver(net, p)
    assert [h.shape for h in ours.history[:3]] == [b.shape for b in statistics]
    ours.step(1.0, 0)
    assert all(map(torch.equal, net.blobs["n"], statistics))
    assert any(h.any() for h in ours.history) == (kind not in ("SGD", "Nesterov"))


def test_momentum_that_was_restored_moves_a_frozen_parameter_as_in_caffe() -> None:
    p = pb.SolverParameter(lr_policy="fixed", base_lr=0.1, momentum=0.5)
    net = small_net()
    ours = make_solver(net, p)
    frozen = net.blobs["b"][1]
    before = frozen.detach().clone()
    ours.step(0.1, 0)
    assert torch.equal(frozen, before)
    ours.restore([torch.ones_like(h) for h in ours.history], (7, 0))
    ours.step(0.1, 7)
    assert torch.equal(frozen, before - 0.5)


@given(
    st.lists(st.integers(0, 40), max_size=6),
    st.integers(0, 40),
    st.integers(0, 6),
    st.integers(0, 40),
)
def test_multistep_counts_its_steps_as_an_update_by_update_count_does(
    values: list[int], begun: int, step: int, further: int
) -> None:
    p = pb.SolverParameter(lr_policy="multistep", base_lr=1, gamma=0.5, stepvalue=values)
    start = (begun, min(step, len(values)))
    counted = start[1]
    for iteration in range(begun, begun + further + 1):
        if counted < len(values) and iteration >= values[counted]:
            counted += 1
        assert learning_rate(p, iteration, start) == 0.5**counted


def test_poly_is_as_coarse_as_caffes_float32_at_its_end() -> None:
    p = pb.SolverParameter(lr_policy="poly", base_lr=1, power=1, max_iter=450_000)
    exact = 1 / 450_000
    assert learning_rate(p, 449_999) != pytest.approx(exact, rel=1e-3)
    assert learning_rate(p, 449_999) == pytest.approx(exact, rel=0.03)


SHARED = """
layer {{ name: "a" type: "InnerProduct" bottom: "data" top: "a"
  param {{ name: "w" {0} }} inner_product_param {{ num_output: 4 bias_term: false }} }}
layer {{ name: "b" type: "InnerProduct" bottom: "a" top: "b"
  param {{ name: "w" {1} }} inner_product_param {{ num_output: 4 bias_term: false }} }}
"""


@pytest.mark.parametrize(
    ("first", "second", "moved"),
    [("", "", 1), ("lr_mult: 3", "", 3), ("", "lr_mult: 3", 3), ("lr_mult: 3", "lr_mult: 3", 3)],
)
def test_a_shared_parameter_is_updated_once_by_the_sum(first: str, second: str, moved: int) -> None:
    net = small_net(SHARED.format(first, second))
    ours = make_solver(net, pb.SolverParameter(lr_policy="fixed", base_lr=1))
    assert len(ours.params) == len(ours.history) == 1
    w = net.blobs["b"][0]
    before = w.detach().clone()
    x = torch.ones(1, 4)
    net({"data": x})["b"].sum().backward()
    ours.step(1.0, 0)
    # d/dW of 1ᵀ W W x = 1 (W x)ᵀ + Wᵀ 1 xᵀ
    gradient = torch.outer(torch.ones(4), before @ x[0]) + torch.outer(before.T.sum(1), x[0])
    assert torch.allclose(before - w.detach(), moved * gradient, atol=1e-5)


@pytest.mark.parametrize("field", ["lr_mult", "decay_mult"])
def test_layers_that_disagree_about_a_shared_parameter_are_named(field: str) -> None:
    net = small_net(SHARED.format(f"{field}: 1", f"{field}: 2"))
    with pytest.raises(NetError, match=rf"'a' and 'b' share the parameter 'w'.*{field} 1 and 2"):
        make_solver(net, pb.SolverParameter(lr_policy="fixed", base_lr=1))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('type: "Adamax" lr_policy: "fixed"', "type is 'Adamax'; Caffe has SGD, Nesterov"),
        ('type: "Adam" solver_type: ADAM lr_policy: "fixed"', "both type and solver_type"),
        ("base_lr: 1", "lr_policy is ''; Caffe has fixed"),
        ('lr_policy: "cosine"', "lr_policy is 'cosine'"),
        ('lr_policy: "step"', "stepsize is 0; lr_policy step wants at least 1"),
        ('lr_policy: "sigmoid" gamma: 1', "stepsize is 0; lr_policy sigmoid"),
        ('lr_policy: "exp" gamma: -1', "gamma is -1; lr_policy exp"),
        ('lr_policy: "multistep" gamma: 1 stepvalue: 5 stepvalue: -3', "stepvalue is -3"),
        ('lr_policy: "poly"', "max_iter is 0; lr_policy poly"),
        ('lr_policy: "fixed" type: "AdaGrad" momentum: 0.9', "momentum is 0.9, and AdaGrad"),
        ('lr_policy: "fixed" solver_type: RMSPROP momentum: 0.5', "momentum is 0.5, and RMSProp"),
        ('lr_policy: "fixed" type: "RMSProp" rms_decay: 1', "rms_decay is 1; RMSProp"),
        ('lr_policy: "fixed" type: "RMSProp" rms_decay: -0.1', "rms_decay is -0.1"),
        ('lr_policy: "fixed" type: "Adam" momentum: 1', "momentum is 1; Adam"),
        ('lr_policy: "fixed" type: "Adam" momentum2: 1', "momentum2 is 1; Adam"),
        ('lr_policy: "fixed" delta: -1', "delta is -1"),
        ('lr_policy: "fixed" regularization_type: "L3"', "regularization_type is 'L3'"),
        ('lr_policy: "fixed" iter_size: 0', "iter_size is 0"),
        ('lr_policy: "fixed" average_loss: 0', "average_loss is 0"),
        ('lr_policy: "fixed" snapshot_diff: true', "snapshot_diff: true is not supported"),
    ],
)
def test_a_solver_that_cannot_be_meant_is_one_message(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        make_solver(small_net(), solver_from(text))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", solver.TYPES)
def test_the_enum_of_2014_names_the_same_solver(kind: str) -> None:
    p = solver_from(f'lr_policy: "fixed" solver_type: {kind.upper()}')
    assert solver.kind(p) == kind
    assert type(make_solver(small_net(), p)).__name__ == kind


@pytest.mark.parametrize("kind", solver.TYPES)
def test_the_configs_solver_is_one_that_caffe_takes(kind: str) -> None:
    row = {"weights": "none", "solver": kind, "clip_gradients": 5, "regularization_type": "L1",
           "average_loss": 7, "delta": 0.25, "momentum2": 0.75, "rms_decay": 0.5}  # fmt: skip
    run = config.complete({"dataset": "d", "images": "x", "runs": {"a": row}})["runs"]["a"]
    p = solver.build(run, "net", "snap", train_records=1000, val_records=10)
    assert (p.type, p.clip_gradients, p.regularization_type, p.average_loss) == (kind, 5, "L1", 7)
    assert p.HasField("momentum") == (kind not in ("AdaGrad", "RMSProp"))
    assert p.HasField("delta") == (kind not in ("SGD", "Nesterov"))
    assert (p.momentum2 == 0.75) == (kind == "Adam")
    assert (p.rms_decay == 0.5) == (kind == "RMSProp")
    assert isinstance(make_solver(small_net(), p), Solver)
