"""Snapshots hold all that a run goes on from, and no broken one is ever gone on from."""

from __future__ import annotations

import csv
import errno
import io
import os
import tempfile
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from recaffe.engines.base import TrainJob
from recaffe.engines.torch.net import Net
from recaffe.engines.torch.snapshots import Store, restore_from, write_snapshot
from recaffe.engines.torch.solvers import Solver, make_solver
from recaffe.engines.torch.train import train
from recaffe.errors import MachineError, WeightsError
from recaffe.net import weights
from recaffe.net.parse import to_net
from recaffe.net.prototxt import parse
from recaffe.net.state import State, read_state, write_state
from recaffe.proto import caffe_pb2 as pb
from recaffe.solver import TYPES
from tests.updates import solver_from, write_lmdb

NET = """
name: "small"
layer {{ name: "data" type: "Data" top: "data" top: "label"
  transform_param {{ scale: 0.01 {transform} }}
  data_param {{ source: "records" batch_size: 4 backend: LMDB }} }}
layer {{ name: "conv" type: "Convolution" bottom: "data" top: "conv" param {{ lr_mult: 2 }}
  convolution_param {{ num_output: 4 kernel_size: 3 weight_filler {{ type: "msra" }} }} }}
layer {{ name: "norm" type: "BatchNorm" bottom: "conv" top: "conv" }}
layer {{ name: "relu" type: "ReLU" bottom: "conv" top: "conv" }}
layer {{ name: "drop" type: "Dropout" bottom: "conv" top: "conv"
  dropout_param {{ dropout_ratio: {dropout} }} }}
layer {{ name: "fc" type: "InnerProduct" bottom: "conv" top: "fc"
  inner_product_param {{ num_output: 3 weight_filler {{ type: "xavier" }} }} }}
layer {{ name: "loss" type: "SoftmaxWithLoss" bottom: "fc" bottom: "label" top: "loss" }}
layer {{ name: "accuracy" type: "Accuracy" bottom: "fc" bottom: "label" top: "accuracy"
  include {{ phase: TEST }} }}
"""


def small(kind: str = "SGD", more: str = "", outputs: int = 3, seed: int = 0) -> tuple[Net, Solver]:
    """A net after a few updates by random gradients, and its solver."""
    text = NET.format(transform="", dropout=0.5).replace("num_output: 3", f"num_output: {outputs}")
    net = Net(to_net(parse(text, "net")), pb.TRAIN, {"data": (4, 3, 8, 8), "label": (4,)}, seed)
    solver = make_solver(net, solver_from(f'type: "{kind}" base_lr: 0.1 lr_policy: "fixed" {more}'))
    generator = torch.Generator().manual_seed(seed)
    for iteration in range(3):
        for w in solver.params:
            if w.requires_grad:
                w.grad = torch.randn(w.shape, generator=generator)
        solver.step(0.1, iteration)
    return net, solver


def same(a: list[np.ndarray], b: list[np.ndarray]) -> bool:
    return all(np.array_equal(x, y) for x, y in zip(a, b, strict=True))


def blobs(net: Net) -> list[np.ndarray]:
    return [b.detach().numpy() for layer in net.blobs.values() for b in layer]


# The newest snapshot's .json needs no more than this.
EXTRA: dict[str, Any] = {"best": {"iteration": -1, "sha256": ""}}


@pytest.mark.parametrize("kind", TYPES)
@pytest.mark.parametrize("suffix", ["", ".h5"])
def test_a_snapshot_brings_back_weights_and_history(tmp_path: Path, kind: str, suffix: str) -> None:
    net, solver = small(kind, "snapshot_format: HDF5" if suffix else "")
    model, state = write_snapshot(net, solver, 3, tmp_path / "a.b_iter_3")
    assert model == tmp_path / f"a.b_iter_3.caffemodel{suffix}"
    assert state == tmp_path / f"a.b_iter_3.solverstate{suffix}"
    assert read_state(state).learned_net == str(model)
    other, again = small(kind, seed=1)
    assert not same(blobs(net), blobs(other))
    assert restore_from(state, other, again) == 3
    assert same(blobs(net), blobs(other))
    assert all(map(torch.equal, solver.history, again.history))
    assert any(h.any() for h in again.history)


def test_a_step_is_gone_on_from_under_other_stepvalues(tmp_path: Path) -> None:
    rule = 'base_lr: 1 gamma: 0.5 lr_policy: "multistep" max_iter: 9'
    net, _ = small()
    begun = make_solver(net, solver_from(f"{rule} stepvalue: 2"))
    _, state = write_snapshot(net, begun, 2, tmp_path / "x")
    assert read_state(state).current_step == 0  # Caffe counts the step at its first update
    changed = make_solver(net, solver_from(f"{rule} stepvalue: 1 stepvalue: 1 stepvalue: 4"))
    restore_from(state, net, changed)
    assert [changed.rate(i) for i in range(2, 6)] == [0.5, 0.25, 0.125, 0.125]
    _, state = write_snapshot(net, begun, 5, tmp_path / "y")
    assert read_state(state).current_step == 1
    changed = make_solver(net, solver_from(f"{rule} stepvalue: 99 stepvalue: 6"))
    restore_from(state, net, changed)
    assert [changed.rate(i) for i in range(5, 8)] == [0.5, 0.25, 0.25]


def test_a_moved_snapshot_finds_its_weights_beside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    net, solver = small()
    Path("there").mkdir()
    write_snapshot(net, solver, 3, Path("there/x"))
    Path("there").rename("here")
    other, again = small(seed=1)
    restore_from(Path("here/x.solverstate"), other, again)
    assert same(blobs(net), blobs(other))
    Path("here/x.caffemodel").unlink()
    with pytest.raises(WeightsError, match=r"weights in there/x.caffemodel, but .*here/x.caffem"):
        restore_from(Path("here/x.solverstate"), other, again)


def test_a_state_without_weights_leaves_those_of_the_net(tmp_path: Path) -> None:
    net, solver = small()
    before = [b.copy() for b in blobs(net)]
    state = State(8, "", 0, [np.ones(h.shape, np.float32) for h in solver.history])
    write_state(state, tmp_path / "x.solverstate")
    assert restore_from(tmp_path / "x.solverstate", net, solver) == 8
    assert same(before, blobs(net))
    assert all((h == 1).all() for h in solver.history)


@pytest.mark.parametrize(
    ("kind", "outputs", "message"),
    [
        ("Adam", 3, "history of 7 blobs, but a Adam solver of this net has 14"),
        ("SGD", 4, r"history 5 has the shape \(3, 144\), but the net's parameter is \(4, 144\)"),
    ],
)
def test_a_state_of_another_solver_or_net_is_named(
    tmp_path: Path, kind: str, outputs: int, message: str
) -> None:
    _, state = write_snapshot(*small(), 3, tmp_path / "x")
    net, solver = small(kind, outputs=outputs, seed=1)
    before = [b.copy() for b in blobs(net)]
    with pytest.raises(WeightsError, match=message):
        restore_from(state, net, solver)
    assert same(before, blobs(net)), "nothing is loaded by halves"


def test_a_history_in_the_four_dimensions_of_2014_fits(tmp_path: Path) -> None:
    net, solver = small()
    proto = pb.SolverState(iter=5)
    for h in solver.history:
        shape = (*(1,) * (4 - h.dim()), *h.shape)
        num, channels, height, width = shape
        blob = proto.history.add(num=num, channels=channels, height=height, width=width)
        blob.data.extend(h.numpy().ravel())
    (tmp_path / "x.solverstate").write_bytes(proto.SerializeToString())
    wanted = [h.clone() for h in solver.history]
    for h in solver.history:
        h.zero_()
    assert restore_from(tmp_path / "x.solverstate", net, solver) == 5
    assert all(map(torch.equal, wanted, solver.history))


def filled(folder: Path, iterations: list[int], more: str = "") -> Store:
    store = Store(folder)
    net, solver = small("Adam", more)
    for iteration in iterations:
        store.save(net, solver, iteration, EXTRA)
    return store


@settings(max_examples=40, deadline=None)
@given(
    st.sampled_from(["caffemodel", "solverstate", "json"]),
    st.sampled_from(["", "snapshot_format: HDF5"]),
    st.floats(0, 1, exclude_max=True),
    st.sampled_from(["flip", "cut", "empty", "gone", "text"]),
    st.integers(0, 7),
)
def test_a_broken_snapshot_is_passed_over_and_named(
    kind: str, more: str, where: float, damage: str, bit: int
) -> None:
    with tempfile.TemporaryDirectory() as place, redirect_stdout(io.StringIO()) as said:
        files = filled(Path(place), [10, 20], more).files(20)
        path = {"caffemodel": files.model, "solverstate": files.state, "json": files.extra}[kind]
        data = bytearray(path.read_bytes())
        at = int(where * (len(data) - 1))  # a .json without its last line end is whole
        if damage == "flip":
            data[at] ^= 1 << bit
        if damage == "gone":
            path.unlink()
        else:
            path.write_bytes({"flip": data, "cut": data[:at], "empty": b"", "text": b"[1]"}[damage])
        found = Store(Path(place)).newest()
    assert found is not None
    assert found["iteration"] == 10
    # Without its .json a snapshot was never finished, so there is nothing to say.
    assert ("snapshot 20 is passed over" in said.getvalue()) != (
        kind == "json" and damage == "gone"
    )
    assert path.name in said.getvalue() or (kind, damage) == ("json", "gone")


def test_only_whole_snapshots_count_among_those_kept(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = filled(tmp_path, [10, 20, 30])
    assert store.iterations() == [30, 20]
    store.files(30).state.write_bytes(b"")
    store = Store(tmp_path)
    found = store.newest()
    assert found is not None
    assert found["iteration"] == 20
    assert "30 is passed over" in capsys.readouterr().out
    store.save(*small("Adam"), 25, EXTRA)
    assert store.iterations() == [25, 20], "the broken one must not push out a whole one"
    assert not list(tmp_path.glob("*_30.*"))


def test_a_snapshot_whose_disk_is_full_leaves_the_one_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = filled(tmp_path, [10])

    def full(fd: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(MachineError, match="No space left while writing"):
        store.save(*small("Adam"), 20, EXTRA)
    found = Store(tmp_path).newest()
    assert found is not None
    assert found["iteration"] == 10
    assert not list(tmp_path.glob(".*")), "nothing is left half-written"


def run(place: Path, solver: str, iterations: int) -> TrainJob:
    """Train to `iterations` in the folder `place`, from what it holds."""
    place.mkdir(exist_ok=True)
    (place / "solver.prototxt").write_text(f"{solver} max_iter: {iterations}")
    job = TrainJob(
        place / "solver.prototxt", place / "snapshots", None, (), place / "final.caffemodel",
        place / "log", place / "csv", select="best", device="cpu",
    )  # fmt: skip
    train(job)
    return job


def table(job: TrainJob) -> list[dict[str, str]]:
    assert job.csv is not None
    with job.csv.open(newline="") as file:
        rows = list(csv.DictReader(file))
    return [{k: v for k, v in r.items() if k not in ("seconds", "images_per_second")} for r in rows]


@settings(max_examples=12, deadline=None)
@given(
    kind=st.sampled_from(TYPES),
    iter_size=st.integers(1, 3),
    average_loss=st.integers(1, 5),
    transform=st.sampled_from(["", "crop_size: 8", "mirror: true", "crop_size: 7 mirror: true"]),
    dropout=st.sampled_from([0, 0.5]),
    policy=st.sampled_from(
        [
            '"fixed"',
            '"step" stepsize: 2 gamma: 0.5',
            '"multistep" stepvalue: 3 stepvalue: 5 gamma: 0.5',
        ]
    ),
    n=st.integers(1, 4),
    rest=st.integers(1, 4),
    display=st.integers(1, 3),
    test_interval=st.integers(1, 4),
    suffix=st.sampled_from(["BINARYPROTO", "HDF5"]),
)
def test_a_break_leaves_no_trace(
    kind: str, iter_size: int, average_loss: int, transform: str, dropout: float, policy: str, n: int,
    rest: int, display: int, test_interval: int, suffix: str,
) -> None:  # fmt: skip
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        rng = np.random.default_rng(0)
        # 11 records: batches of 4 begin anew in the midst.
        records = rng.integers(0, 256, (11, 3, 9, 10), np.uint8)
        write_lmdb(place / "records", records, rng.integers(0, 3, 11))
        text = NET.format(transform=transform, dropout=dropout)
        (place / "net").write_text(text.replace('"records"', f'"{place}/records"'))
        momentum = "" if kind in ("AdaGrad", "RMSProp") else "momentum: 0.9"
        solver = f"""net: "{place}/net" type: "{kind}" base_lr: 0.01 {momentum} weight_decay: 0.01
            lr_policy: {policy} iter_size: {iter_size} average_loss: {average_loss} random_seed: 3
            display: {display} test_iter: 3 test_interval: {test_interval} snapshot_format: {suffix}
            snapshot_prefix: "{place}/snap" solver_mode: CPU"""
        whole = run(place / "whole", solver, n + rest)
        run(place / "broken", solver, n)
        broken = run(place / "broken", solver, n + rest)
        assert table(whole) == table(broken)
        states = []
        for job in (whole, broken):
            assert job.snapshots is not None
            assert job.final is not None
            files = Store(job.snapshots).files(n + rest)
            state, extra = read_state(files.state), Store(job.snapshots).newest()
            assert extra is not None
            states.append(
                (
                    [a.tobytes() for b in weights.read(files.model).values() for a in b],
                    [a.tobytes() for b in weights.read(job.final).values() for a in b],
                    [h.tobytes() for h in state.history],
                    (state.iteration, state.current_step),
                    {k: v for k, v in extra.items() if k not in ("seconds", "sha256")},
                )
            )
        assert states[0] == states[1]
