"""Every solver, policy and option, update by update, against `caffe train`."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import product
from pathlib import Path

import numpy as np
import pytest

from recaffe.engines.torch.rates import learning_rate
from recaffe.errors import ConfigError
from recaffe.net import weights
from recaffe.net.parse import to_net
from recaffe.net.prototxt import parse
from recaffe.net.state import read_state
from recaffe.solver import check
from tests.parity.training import caffe_train, furthest, losses, shown
from tests.updates import random_weights, read_data, solver_from, updates, write_lmdb

SHAPE, BATCH, STEPS, EVERY = (3, 12, 10), 6, 20, 5
# BatchNorm's statistics, a frozen layer with a penalty, a shared parameter, four multipliers. No
# bias stands before BatchNorm: its gradient is rounding noise, which AdaGrad and its kin scale up.
NET = """
name: "small"
layer { name: "data" type: "Data" top: "data" top: "label"
  transform_param { scale: 0.01 } data_param { source: "records" batch_size: 6 backend: LMDB } }
layer { name: "frozen" type: "Convolution" bottom: "data" top: "frozen"
  param { lr_mult: 0 } param { lr_mult: 0 decay_mult: 0 }
  convolution_param { num_output: 4 kernel_size: 3 } }
layer { name: "conv" type: "Convolution" bottom: "frozen" top: "conv" param { lr_mult: 1 }
  convolution_param { num_output: 6 kernel_size: 3 bias_term: false } }
layer { name: "norm" type: "BatchNorm" bottom: "conv" top: "conv" }
layer { name: "scale" type: "Scale" bottom: "conv" top: "conv" scale_param { bias_term: true } }
layer { name: "bend" type: "Sigmoid" bottom: "conv" top: "conv" }
layer { name: "pool" type: "Pooling" bottom: "conv" top: "pool"
  pooling_param { pool: AVE kernel_size: 2 stride: 2 } }
layer { name: "one" type: "InnerProduct" bottom: "pool" top: "one"
  param { name: "both" lr_mult: 2 decay_mult: 0.5 } param { lr_mult: 3 decay_mult: 0 }
  inner_product_param { num_output: 5 } }
layer { name: "two" type: "InnerProduct" bottom: "pool" top: "two"
  param { name: "both" } param { lr_mult: 3 decay_mult: 0 } inner_product_param { num_output: 5 } }
layer { name: "sum" type: "Eltwise" bottom: "one" bottom: "two" top: "sum" }
layer { name: "turn" type: "TanH" bottom: "sum" top: "turn" }
layer { name: "fc" type: "InnerProduct" bottom: "turn" top: "fc" inner_product_param { num_output: 3 } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "fc" bottom: "label" top: "loss" }
"""
TINY = """
layer { name: "x" type: "DummyData" top: "x" dummy_data_param { shape { dim: 1 dim: 1 } } }
layer { name: "y" type: "InnerProduct" bottom: "x" top: "y" inner_product_param { num_output: 1 } }
layer { name: "loss" type: "EuclideanLoss" bottom: "y" bottom: "x" top: "loss" }
"""
# Relative differences of weights, history and loss.
Row = tuple[float, float, float]
TYPES = {
    "SGD": "base_lr: 0.1 momentum: 0.9",
    "Nesterov": "base_lr: 0.1 momentum: 0.9",
    "AdaGrad": "base_lr: 0.005 delta: 1e-5",
    "RMSProp": "base_lr: 0.003 rms_decay: 0.95 delta: 1e-5",
    "AdaDelta": "base_lr: 1 momentum: 0.95 delta: 1e-6",
    "Adam": "base_lr: 0.003 momentum: 0.9 momentum2: 0.99 delta: 1e-6",
}
POLICIES = (
    'lr_policy: "fixed"',
    'lr_policy: "step" stepsize: 5 gamma: 0.5',
    'lr_policy: "exp" gamma: 0.9',
    'lr_policy: "inv" gamma: 0.1 power: 0.75',
    # Not rising: Caffe goes on by one step an update.
    'lr_policy: "multistep" gamma: 0.5 stepvalue: 5 stepvalue: 5 stepvalue: 3 stepvalue: 15',
    'lr_policy: "poly" power: 1.5',
    'lr_policy: "sigmoid" gamma: 0.3 stepsize: 10',
)
OPTIONS = (
    "weight_decay: 0.01",
    'weight_decay: 0.003 regularization_type: "L1"',
    "weight_decay: 0.01 iter_size: 3",
    "weight_decay: 0.01 clip_gradients: 0.05",
    'weight_decay: 0.003 regularization_type: "L1" iter_size: 2 clip_gradients: 0.1',
)
# Solver × policy, and for every solver each of the options beside the fixed rate.
CASES = [
    *((t, p, OPTIONS[i % 5]) for i, (t, p) in enumerate(product(TYPES, POLICIES))),
    *((t, POLICIES[0], o) for t, o in product(TYPES, OPTIONS)),
]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("solvers")
    rng = np.random.default_rng(1)
    write_lmdb(
        folder / "records", rng.integers(0, 256, (20, *SHAPE), np.uint8), rng.integers(0, 3, 20)
    )
    (folder / "net.prototxt").write_text(NET)
    random_weights(to_net(parse(NET, "net")), SHAPE, BATCH, folder / "start.caffemodel")
    return folder


@pytest.fixture(scope="module")
def table(request: pytest.FixtureRequest) -> Iterator[dict[str, list[Row]]]:
    rows: dict[str, list[Row]] = {}
    title = f"Worst relative difference after {STEPS} updates or fewer, all policies and options"
    with shown(request, title) as lines:
        yield rows
        lines.append(f"{'solver':10}{'runs':>6}{'weights':>10}{'history':>10}{'loss':>10}")
        for name, found in rows.items():
            worst = (max(column) for column in zip(*found, strict=True))
            lines.append(f"{name:10}{len(found):6}" + "".join(f"{w:10.1e}" for w in worst))


def relative(ours: np.ndarray, theirs: np.ndarray) -> float:
    # max() passes over a nan that is not its first argument.
    assert np.isfinite(ours).all()
    assert np.isfinite(theirs).all()
    return float(np.abs(ours - theirs).max() / max(np.abs(theirs).max(), 1e-30))


@pytest.mark.parametrize(("kind", "policy", "options"), CASES)
def test_weights_and_history_are_those_of_caffe_train(
    place: Path, caffe_home: Path, table: dict[str, list[Row]], monkeypatch: pytest.MonkeyPatch,
    kind: str, policy: str, options: str,
) -> None:  # fmt: skip
    monkeypatch.chdir(place)
    text = (
        f'net: "net.prototxt" type: "{kind}" {TYPES[kind]} {policy} {options} max_iter: {STEPS} '
        f'snapshot: {EVERY} snapshot_prefix: "theirs" display: 1 solver_mode: CPU'
    )
    log = caffe_train(caffe_home, text, "--weights=start.caffemodel")
    data, param = read_data(Path("records"), BATCH, 0.01), to_net(parse(NET, "net"))
    curve, w, h = {}, 0.0, 0.0
    for done, loss, net, solver in updates(
        param, solver_from(text), data, Path("start.caffemodel")
    ):
        curve[done - 1] = loss
        if done % EVERY:
            continue
        state = read_state(f"theirs_iter_{done}.solverstate")
        assert (done, solver.current_step(done)) == (state.iteration, state.current_step)
        theirs = weights.read(f"theirs_iter_{done}.caffemodel")
        assert set(theirs) == set(net.blobs)
        for name, blobs in theirs.items():
            for mine, blob in zip(net.blobs[name], blobs, strict=True):
                w = max(w, relative(mine.detach().numpy(), blob))
        for history, blob in zip(solver.history, state.history, strict=True):
            assert history.shape == blob.shape
            h = max(h, relative(history.numpy(), blob))
    row = (w, h, furthest(curve, losses(log)))
    table.setdefault(kind, []).append(row)
    assert max(row) <= 1e-4


@pytest.mark.parametrize("policy", POLICIES)
def test_rates_are_those_that_caffe_prints(
    place: Path, caffe_home: Path, monkeypatch: pytest.MonkeyPatch, policy: str
) -> None:
    monkeypatch.chdir(place)
    Path("tiny.prototxt").write_text(TINY)
    text = f'net: "tiny.prototxt" base_lr: 0.3 {policy} max_iter: 400 display: 1 solver_mode: CPU'
    log = caffe_train(caffe_home, text + " snapshot_after_train: false")
    theirs = [float(x) for x in re.findall(r"Iteration \d+, lr = (\S+)", log)]
    p = solver_from(text)
    assert [learning_rate(p, i) for i in range(400)] == pytest.approx(
        theirs, rel=5e-6
    )  # six digits


@pytest.mark.parametrize(
    "text",
    [
        'type: "AdaGrad" momentum: 0.9 lr_policy: "fixed"',
        'type: "RMSProp" momentum: 0.9 lr_policy: "fixed"',
        'type: "RMSProp" rms_decay: 1 lr_policy: "fixed"',
        'type: "RMSProp" rms_decay: -0.5 lr_policy: "fixed"',
        'type: "Adamax" lr_policy: "fixed"',
        'type: "Adam" solver_type: ADAM lr_policy: "fixed"',
        "",
        'lr_policy: "cosine"',
        'lr_policy: "step" gamma: 0.5',
        'lr_policy: "sigmoid" gamma: 0.5',
        'lr_policy: "exp" gamma: -0.5',
        'lr_policy: "fixed" weight_decay: 1 regularization_type: "L3"',
        'lr_policy: "fixed" average_loss: 0',
    ],
)
def test_what_caffe_refuses_is_refused_before_training(
    place: Path, caffe_home: Path, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    monkeypatch.chdir(place)
    Path("tiny.prototxt").write_text(TINY)
    solver = f'net: "tiny.prototxt" base_lr: 0.1 max_iter: 1 snapshot_prefix: "x" {text}'
    with pytest.raises(AssertionError, match=r"Check failed|Unknown|Failed to upgrade"):
        caffe_train(caffe_home, solver + " solver_mode: CPU")
    with pytest.raises(ConfigError):
        check(solver_from(solver))
