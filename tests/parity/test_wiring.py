"""How layers hang together, beside real Caffe: who reads what, what works in place, who shares
weights, where losses sit, and which nets are refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recaffe.errors import NetError
from recaffe.net import wiring
from recaffe.proto import caffe_pb2 as pb
from tests.parity.caffe_client import Caffe, CaffeDiedError
from tests.parity.compare import check, ours, read
from tests.parity.draw import Case, Draw, layer
from tests.unit.small_nets import DATA, MISTAKES, inputs

SHAPE = (2, 4, 5, 5)
# Nets that only recaffe refuses: types that it hasn't, and where Caffe goes on to read other memory
# or can't tell two layers' weights apart.
ONLY_OURS = {
    # Caffe computes inf or nan of these, or divides by 0.
    "dropping everything",
    "a factor beyond float32",
    "a root of less than nothing",
    "a dilation of nothing",
    "a type of Caffe's", "a Python layer", "spatial pyramids", "a convolution over five axes",
    "a pooling window behind the picture", "two layers of one name",
}  # fmt: skip


def random_net(d: Draw) -> str:
    """Some layers that keep the shape, each on blobs made so far, and losses on what is left."""
    blobs, text = ["data"], ""
    # Blobs that are read as they are, and tops that their layer's backward pass looks at again: it
    # would find what a layer in place made of them, and Caffe's gradient would be a wrong one.
    used, kept = set[str](), set[str]()
    for i in range(d.int(2, 7)):
        name, a = f"l{i}", d.of(*blobs)
        kind = d.of("Convolution", "ReLU", "Scale", "Eltwise", "Pooling", "Concat", "TanH")
        rates = "".join(f" param {{ lr_mult: {d.of(1, 1, 0)} }}" for _ in range(2))
        stop = " propagate_down: false" if d.int(0, 5) == 0 else ""
        if kind == "Convolution":
            if d.int(0, 2) == 0:
                rates = ' param { name: "w" } param { name: "b" }'
            window = "convolution_param { num_output: 4 kernel_size: 3 pad: 1 }"
            text += layer(kind, window + rates + stop, [a], [name], name)
        elif kind == "Scale":
            text += layer(kind, "scale_param { bias_term: true }" + rates + stop, [a], [name], name)
        elif kind == "Eltwise":
            b = d.of(*blobs)
            operation = d.of("SUM", "PROD", "MAX")
            text += layer(kind, f"eltwise_param {{ operation: {operation} }}", [a, b], [name], name)
            used.add(b)
        elif kind == "Concat":
            text += layer("Slice", "", [a], [f"{name}a", f"{name}b"], f"{name}s")
            text += layer("Concat", "", [f"{name}b", f"{name}a"], [name], name)
        elif kind == "Pooling":
            text += layer(kind, "pooling_param { kernel_size: 3 pad: 1 }", [a], [name], name)
        elif a not in used | kept | {"data"} and d.bool():
            text += layer(kind, "", [a], [a], name)
            kept |= {a} if kind == "TanH" else set()
            continue
        else:
            text += layer(kind, stop, [a], [name], name)
            kept |= {name} if kind == "TanH" else set()
        used.add(a)
        blobs.append(name)
    for i, blob in enumerate(b for b in blobs if b not in used or d.int(0, 3) == 0):
        weight = f"loss_weight: {d.of(1, 0.3, -2)} reduction_param {{ operation: SUMSQ }}"
        text += layer("Reduction", weight, [blob], [f"loss{i}"], f"loss{i}")
    return text


@given(data=st.data())
def test_random_nets_compute_what_caffe_computes(data: Any, caffe: Caffe) -> None:
    d = Draw(data)
    case = Case(random_net(d), {"data": d.normal(SHAPE) / 2}, gradients=(), force_backward=False)
    check(caffe, "nets of random wiring", case, seed=int(d.rng.integers(1 << 31)))


def test_a_loss_weight_on_any_top_counts(caffe: Caffe) -> None:
    window = "convolution_param { num_output: 2 kernel_size: 3 } loss_weight: 0.5"
    text = layer("Convolution", window, ["data"], ["c"], "c") + layer("ReLU", "", ["c"], ["r"], "r")
    text += layer("Reduction", "loss_weight: -1", ["r"], ["m"], "m")
    data = np.random.default_rng(1).normal(0, 1, SHAPE).astype(np.float32)
    case = Case(text, {"data": data}, gradients=(), force_backward=False)
    check(caffe, "a loss weight on any top", case)
    params = {"c": [np.ones((2, 4, 3, 3), np.float32), np.zeros(2, np.float32)]}
    theirs = caffe.run(case.text(), "TRAIN", case.blobs, params)
    assert ours(read(case.text()), "TRAIN", case.blobs, params, {}).loss == pytest.approx(
        theirs.loss, rel=1e-5
    )


@pytest.mark.parametrize("mistake", [m for m in MISTAKES if m not in ONLY_OURS])
def test_caffe_refuses_what_recaffe_refuses(mistake: str, caffe: Caffe) -> None:
    blobs = {k: v.numpy() for k, v in inputs().items()}
    with pytest.raises(CaffeDiedError):
        caffe.run(Case(MISTAKES[mistake][0], blobs).text(), "TRAIN", blobs)


def test_what_caffe_runs_in_place_recaffe_runs_too(caffe: Caffe) -> None:
    # Read after the in-place layer, not before: both see the new value.
    text = layer("Power", "power_param { shift: 1 }", ["data"], ["p"], "p")
    text += layer("ReLU", "", ["p"], ["p"], "r") + layer("TanH", "", ["p"], ["t"], "t")
    text += layer("Eltwise", "", ["p", "t"], ["y"], "y")
    data = np.random.default_rng(2).normal(0, 1, SHAPE).astype(np.float32)
    check(caffe, "in place, then read twice", Case(text, {"data": data}))


def test_a_net_that_wires_itself_wrongly_is_refused_without_shapes() -> None:
    bad = pb.LayerParameter(name="relu", type="ReLU", bottom=["x"], top=["y"])
    with pytest.raises(NetError, match="no layer above makes its bottom 'x'"):
        wiring.check([bad], DATA)


@pytest.mark.parametrize(
    ("level", "stages"), [(0, []), (1, []), (3, ["deploy"]), (0, ["deploy", "x"])]
)
@pytest.mark.parametrize("phase", ["TRAIN", "TEST"])
def test_the_same_layers_belong_to_a_state(
    level: int, stages: list[str], phase: str, caffe: Caffe
) -> None:
    rules = [
        "include { max_level: 0 }", "include { min_level: 1 max_level: 2 }",
        'include { stage: "deploy" not_stage: "x" }', 'include { phase: TEST } include { stage: "x" }',
        'exclude { stage: "deploy" }', "exclude { phase: TRAIN min_level: 1 }",
    ]  # fmt: skip
    text = "".join(layer("ReLU", r, ["data"], [f"r{i}"], f"r{i}") for i, r in enumerate(rules))
    case = Case(text, {"data": np.ones(SHAPE, np.float32)}, phase, backward=False)
    theirs = caffe.run(case.text(), phase, case.blobs, backward=False, level=level, stages=stages)
    net = read(case.text())
    net.state.level = level
    net.state.stage.extend(stages)
    assert set(ours(net, phase, case.blobs, {}, {}).outputs) == set(theirs.outputs)
