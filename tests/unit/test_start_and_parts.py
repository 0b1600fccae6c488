"""What a training starts from, and what the parts of a batch count for."""

from __future__ import annotations

import os
import signal
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from recaffe.engines.base import TrainJob
from recaffe.engines.signals import requests
from recaffe.engines.store import alone
from recaffe.engines.torch.distributed import Group
from recaffe.engines.torch.train import Trainer, train
from recaffe.errors import Interrupted, NetError, TrainError
from recaffe.net import weights
from recaffe.net.shapes import takes_any_batch
from tests.training import write_training
from tests.unit.small_nets import FC, LOSS, build

ALONE = """layer { name: "alone" type: "InnerProduct" bottom: "pool" top: "alone" include { phase: TEST }
  inner_product_param { num_output: 3 weight_filler { type: "xavier" } } }
layer { name: "accuracy" type: "Accuracy" bottom: "alone" bottom: "label" top: "accuracy"
  include { phase: TEST } }"""
SQUARES = 'layer { name: "sq" type: "Power" bottom: "fc" top: "sq" power_param { power: 2 } }'
TARGETS = """layer { name: "t" type: "DummyData" top: "t" dummy_data_param { shape { dim: 8 dim: 3 }
  data_filler { type: "uniform" min: -0.9 max: 2 } } }"""
MATRIX = """layer { name: "h" type: "DummyData" top: "h" dummy_data_param {
  shape { dim: 1 dim: 1 dim: 3 dim: 3 } data_filler { type: "constant" value: 0.2 } } }"""


def trainer(job: TrainJob) -> closing[Trainer]:
    return closing(Trainer(replace(job, device="cpu"), Group(), torch.device("cpu")))


def given(path: Path) -> Path:
    blobs = [np.full((3, 96), 7, np.float32), np.zeros(3, np.float32)]
    weights.write(weights.to_net("w", [(n, "InnerProduct", blobs) for n in ("fc", "alone")]), path)
    return path


def test_weights_that_the_solver_names_are_started_from(tmp_path: Path) -> None:
    start = given(tmp_path / "w.caffemodel")
    solver = write_training(tmp_path, weights=f'"{start}"')
    job = TrainJob(solver, log=tmp_path / "log")
    with trainer(job) as made:
        assert made.net.blobs["fc"][0].eq(7).all()
    assert f"Finetuning from {start}" in (tmp_path / "log").read_text()


def test_layers_that_only_a_test_net_has_take_their_weights(tmp_path: Path) -> None:
    solver = write_training(tmp_path, accuracy=ALONE)
    job = TrainJob(solver, weights=given(tmp_path / "w.caffemodel"), log=tmp_path / "log")
    with trainer(job) as made:
        assert made.testers[0].net.blobs["alone"][0].eq(7).all()


def test_a_stop_before_the_first_iteration_claims_no_state(tmp_path: Path) -> None:
    job = TrainJob(write_training(tmp_path), log=tmp_path / "log")
    with requests("stop", "stop") as asked, trainer(job) as made:
        os.kill(os.getpid(), signal.SIGTERM)
        with pytest.raises(Interrupted, match="iteration 0 of 16: nothing was done yet"):
            made.run(asked)
    assert not list(tmp_path.glob("*.solverstate"))


def ends(folder: Path, more: str, micro_batch: int) -> np.ndarray:
    solver = write_training(folder, accuracy=more, drop=0, max_iter=4, test_iter="", base_lr=0.005)
    path = folder / f"final{micro_batch}"
    train(TrainJob(solver, final=path, log=folder / "log", micro_batch=micro_batch, device="cpu"))
    return weights.read(path)["fc"][0]


@pytest.mark.parametrize(
    "more",
    [
        SQUARES + 'layer { name: "r" type: "Reduction" bottom: "sq" top: "r" loss_weight: 9 '
        "reduction_param { operation: MEAN axis: -2 } }",
        TARGETS + 'layer { name: "s" type: "SigmoidCrossEntropyLoss" bottom: "fc" bottom: "t" top: "s" '
        "loss_weight: 9 loss_param { ignore_label: 0 normalization: VALID } }",
        MATRIX + 'layer { name: "g" type: "InfogainLoss" bottom: "fc" bottom: "label" bottom: "h" top: "g" }',
    ],
    ids=["mean over a negative axis", "ignored fractions", "a matrix from a data layer"],
)  # fmt: skip
def test_parts_count_as_the_whole(tmp_path: Path, more: str) -> None:
    assert np.allclose(ends(tmp_path, more, 0), ends(tmp_path, more, 2), rtol=1e-4, atol=1e-6)


def test_a_loss_made_from_a_loss_is_refused_in_parts_alone(tmp_path: Path) -> None:
    more = 'layer { name: "p" type: "Power" bottom: "loss" top: "p" loss_weight: 1 }'
    ends(tmp_path, more, 0)
    with pytest.raises(NetError, match="loss 'p' is computed from what layer 'loss'"):
        ends(tmp_path, more, 2)


def test_two_trainings_do_not_share_a_folder_of_snapshots(tmp_path: Path) -> None:
    job = TrainJob(write_training(tmp_path), tmp_path / "own", final=tmp_path / "final",
                   log=tmp_path / "log", device="cpu")  # fmt: skip
    with alone(tmp_path / "own"), pytest.raises(TrainError, match="Another training writes"):
        train(job)
    assert train(job).iteration == 16


@pytest.mark.parametrize(("first", "takes"), [(0, True), (-1, True), (4, False)])
def test_a_net_that_names_its_number_of_records_is_known(first: int, takes: bool) -> None:
    rest = -1 if first != -1 else 8 * 8 * 3
    net = build(
        'layer { name: "d" type: "Data" top: "data" top: "label" }'
        'layer { name: "r" type: "Reshape" bottom: "data" top: "conv" '
        f"reshape_param {{ shape {{ dim: {first} dim: {rest} }} }} }} {FC}{LOSS}"
    )
    assert takes_any_batch(net.walked, 4) == takes
