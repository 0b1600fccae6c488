"""Imported nets in real Caffe: PyTorch's scores, and a first step of training from their weights."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from recaffe import cli, config
from recaffe.imports.known import KNOWN
from recaffe.net import prepare
from tests import imported, torch_nets
from tests.parity.caffe_client import Caffe
from tests.parity.compare import TABLE, error
from tests.parity.training import caffe_train, losses, torch_train
from tests.updates import write_lmdb

# Each of what differs from the published nets: padded poolings rounded down, strides elsewhere,
# BatchNorm of another eps, Clip, other widths.
NETS = (
    "torchvision:alexnet",
    "torchvision:googlenet",
    "torchvision:squeezenet1_0",
    "torchvision:resnet50",
    "torchvision:densenet121",
    "timm:mobilenetv1_100",
)


@pytest.mark.parametrize("name", NETS)
def test_caffe_gives_pytorchs_scores(name: str, caffe: Caffe) -> None:
    net, pictures = torch_nets.net(name), imported.photographs()
    made = imported.build(name, net)
    theirs = imported.pytorch_scores(net, pictures, KNOWN[name].pixels)
    assert np.abs(theirs[0] - theirs[1]).max() > 0.01 * np.abs(theirs).max()
    text, scores, params = imported.deployed(made)
    data = imported.caffe_input(pictures, made.train["mean"])
    caffes = np.concatenate([
        caffe.run(text, "TEST", {"data": picture[None]}, params, backward=False).blobs[scores]
        for picture in data
    ])  # fmt: skip
    between = error(caffes.reshape(theirs.shape), theirs)
    TABLE.add(f"{name}, imported, beside PyTorch", between, None)
    assert between <= 1e-4
    ours = imported.engine_scores(made, data)
    assert error(ours, theirs) <= 1e-4


def test_training_starts_from_imported_weights_as_in_caffe(
    caffe_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save(torch_nets.net("torchvision:resnet50").state_dict(), "x.pth")
    assert cli.main(["import", "torchvision:resnet50", "--weights", "x.pth", "-o", "net"]) == 0
    pictures = imported.photographs()[..., ::-1].transpose(0, 3, 1, 2)
    Path("labels.txt").write_text("a\nb\n")
    for split in ("train", "val"):
        write_lmdb(tmp_path / f"{split}_lmdb", np.ascontiguousarray(pictures), np.array([0, 1]))
        about = {"shape": [3, imported.SIDE, imported.SIDE], "records": 2}
        Path(f"{split}_lmdb.json").write_text(json.dumps(about))
    train = yaml.safe_load(Path("net/train.yaml").read_text())["train"]
    train |= {"batch_size": 2, "mirror": False}
    size = {"width": imported.SIDE, "height": imported.SIDE}
    full = config.complete(
        {"dataset": "two", "images": "x", "lmdb": size, "train": train, "runs": {"a": {}}}
    )
    run = full["runs"]["a"]
    settings = {"dataset": "two", "mean": "", "run": run}
    made = prepare.prepare(Path(run["net"]), tmp_path, Path(run["weights"]), settings)
    assert made.info["scale"] == pytest.approx(0.017)
    assert made.headline.startswith("159 layers copied, 1 new, 1 of the weights' ignored")
    # The head is new and random: made nought, so that both engines begin with the same; from the
    # third loss on, the layers below have moved too.
    text = made.train_val.replace('weight_filler { type: "msra" }', "")
    Path("net.prototxt").write_text(text)
    solver = """net: "net.prototxt" base_lr: 0.00002 momentum: 0.9 lr_policy: "fixed" max_iter: 3
        display: 1 random_seed: 1 solver_mode: CPU snapshot_prefix: "theirs" """
    theirs = losses(caffe_train(caffe_home, solver, f"--weights={run['weights']}"))
    mine = losses(torch_train(solver.replace("theirs", "ours"), weights=Path(run["weights"])))
    assert theirs.keys() == mine.keys() == {0, 1, 2}
    for i, loss in theirs.items():
        assert mine[i] == pytest.approx(loss, rel=1e-4)
    assert len(set(theirs.values())) == 3
