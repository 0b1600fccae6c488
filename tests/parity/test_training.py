"""Whole trainings in both engines: the same curve without chance, the same accuracy with it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import load_digits, load_sample_images

from recaffe.net import weights
from recaffe.net.parse import to_net
from recaffe.net.prototxt import parse
from tests.parity.training import (
    caffe_train,
    furthest,
    last_accuracy,
    losses,
    shown,
    torch_train,
)
from tests.updates import random_weights, write_lmdb

# CaffeNet's layers and SqueezeNet's fire modules, on pictures of 32×32.
CAFFENET = """
name: "caffenet in small"
layer { name: "data" type: "Data" top: "data" top: "label"
  transform_param { scale: 0.017 mean_value: 104 mean_value: 117 mean_value: 123 }
  data_param { source: "pictures" batch_size: 16 backend: LMDB } }
layer { name: "conv1" type: "Convolution" bottom: "data" top: "conv1"
  param { lr_mult: 1 decay_mult: 1 } param { lr_mult: 2 decay_mult: 0 }
  convolution_param { num_output: 16 kernel_size: 5 pad: 2 } }
layer { name: "relu1" type: "ReLU" bottom: "conv1" top: "conv1" }
layer { name: "pool1" type: "Pooling" bottom: "conv1" top: "pool1"
  pooling_param { pool: MAX kernel_size: 3 stride: 2 } }
layer { name: "norm1" type: "LRN" bottom: "pool1" top: "norm1"
  lrn_param { local_size: 5 alpha: 0.0001 beta: 0.75 } }
layer { name: "conv2" type: "Convolution" bottom: "norm1" top: "conv2"
  param { lr_mult: 1 decay_mult: 1 } param { lr_mult: 2 decay_mult: 0 }
  convolution_param { num_output: 16 kernel_size: 3 pad: 1 group: 2 } }
layer { name: "relu2" type: "ReLU" bottom: "conv2" top: "conv2" }
layer { name: "pool2" type: "Pooling" bottom: "conv2" top: "pool2"
  pooling_param { pool: MAX kernel_size: 3 stride: 2 } }
layer { name: "fc3" type: "InnerProduct" bottom: "pool2" top: "fc3"
  param { lr_mult: 1 decay_mult: 1 } param { lr_mult: 2 decay_mult: 0 }
  inner_product_param { num_output: 32 } }
layer { name: "relu3" type: "ReLU" bottom: "fc3" top: "fc3" }
layer { name: "fc4" type: "InnerProduct" bottom: "fc3" top: "fc4"
  param { lr_mult: 1 decay_mult: 1 } param { lr_mult: 2 decay_mult: 0 }
  inner_product_param { num_output: 4 } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "fc4" bottom: "label" top: "loss" }
"""
# Average pooling's gradient doesn't jump, so the last digits stay the last under any solver.
SMOOTH = CAFFENET.replace("pool: MAX", "pool: AVE")
SQUEEZENET = """
name: "squeezenet in small"
layer { name: "data" type: "Data" top: "data" top: "label"
  transform_param { scale: 0.017 mean_value: 104 mean_value: 117 mean_value: 123 }
  data_param { source: "pictures" batch_size: 16 backend: LMDB } }
layer { name: "conv1" type: "Convolution" bottom: "data" top: "conv1"
  convolution_param { num_output: 16 kernel_size: 3 stride: 2 } }
layer { name: "relu1" type: "ReLU" bottom: "conv1" top: "conv1" }
layer { name: "pool1" type: "Pooling" bottom: "conv1" top: "pool1"
  pooling_param { pool: MAX kernel_size: 3 stride: 2 } }
layer { name: "squeeze" type: "Convolution" bottom: "pool1" top: "squeeze"
  convolution_param { num_output: 8 kernel_size: 1 } }
layer { name: "relu2" type: "ReLU" bottom: "squeeze" top: "squeeze" }
layer { name: "expand1" type: "Convolution" bottom: "squeeze" top: "expand1"
  convolution_param { num_output: 12 kernel_size: 1 } }
layer { name: "relu3" type: "ReLU" bottom: "expand1" top: "expand1" }
layer { name: "expand3" type: "Convolution" bottom: "squeeze" top: "expand3"
  convolution_param { num_output: 12 kernel_size: 3 pad: 1 } }
layer { name: "relu4" type: "ReLU" bottom: "expand3" top: "expand3" }
layer { name: "concat" type: "Concat" bottom: "expand1" bottom: "expand3" top: "concat" }
layer { name: "conv10" type: "Convolution" bottom: "concat" top: "conv10"
  convolution_param { num_output: 4 kernel_size: 1 } }
layer { name: "relu10" type: "ReLU" bottom: "conv10" top: "conv10" }
layer { name: "pool10" type: "Pooling" bottom: "conv10" top: "pool10"
  pooling_param { pool: AVE global_pooling: true } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "pool10" bottom: "label" top: "loss" }
"""
# Digits of 8×8 on a margin, cropped and mirrored at random; dropout before the last layer.
CHANCE = """
name: "chance"
layer { name: "data" type: "Data" top: "data" top: "label" include { phase: TRAIN }
  transform_param { scale: 0.0625 crop_size: 8 mirror: true }
  data_param { source: "digits_train" batch_size: 32 backend: LMDB } }
layer { name: "data" type: "Data" top: "data" top: "label" include { phase: TEST }
  transform_param { scale: 0.0625 crop_size: 8 }
  data_param { source: "digits_test" batch_size: 100 backend: LMDB } }
layer { name: "conv" type: "Convolution" bottom: "data" top: "conv"
  convolution_param { num_output: 16 kernel_size: 3 weight_filler { type: "xavier" } } }
layer { name: "relu" type: "ReLU" bottom: "conv" top: "conv" }
layer { name: "pool" type: "Pooling" bottom: "conv" top: "pool"
  pooling_param { pool: MAX kernel_size: 2 stride: 2 } }
layer { name: "fc1" type: "InnerProduct" bottom: "pool" top: "fc1"
  inner_product_param { num_output: 128 weight_filler { type: "xavier" } } }
layer { name: "relu1" type: "ReLU" bottom: "fc1" top: "fc1" }
layer { name: "drop1" type: "Dropout" bottom: "fc1" top: "fc1" dropout_param { dropout_ratio: 0.4 } }
layer { name: "fc2" type: "InnerProduct" bottom: "fc1" top: "fc2"
  inner_product_param { num_output: 10 weight_filler { type: "xavier" } } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "fc2" bottom: "label" top: "loss" }
layer { name: "accuracy" type: "Accuracy" bottom: "fc2" bottom: "label" top: "accuracy"
  include { phase: TEST } }
"""
SEEDS = range(1, 9)
RULES = {
    "SGD": 'base_lr: 0.01 momentum: 0.9 lr_policy: "step" stepsize: 25 gamma: 0.5',
    "Nesterov": 'base_lr: 0.01 momentum: 0.9 lr_policy: "poly" power: 1',
    "AdaGrad": 'base_lr: 0.005 delta: 1e-4 lr_policy: "fixed"',
    "RMSProp": 'base_lr: 0.0005 rms_decay: 0.95 delta: 1e-4 lr_policy: "exp" gamma: 0.99',
    "AdaDelta": 'base_lr: 0.1 momentum: 0.95 delta: 1e-6 lr_policy: "fixed"',
    "Adam": 'base_lr: 0.001 momentum: 0.9 delta: 1e-5 lr_policy: "multistep" gamma: 0.3 '
    "stepvalue: 30 stepvalue: 45",
}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Records and start weights. 80 pictures are five batches of 16: cut from two photographs, each
    half of them upright and half upside down, which makes four classes. Noise leaves no area quite
    flat: where one is, hundreds of units would switch at once."""
    folder, rng = tmp_path_factory.mktemp("training"), np.random.default_rng(0)
    pictures, labels = [], rng.permutation(np.arange(80) % 4)
    for label in labels:
        photograph = load_sample_images().images[label % 2]
        y, x = rng.integers(0, 360), rng.integers(0, 540)
        cut = photograph[y : y + 64 : 2, x : x + 64 : 2, ::-1]
        pictures.append((cut if label < 2 else cut[::-1]).transpose(2, 0, 1))
    noisy = np.stack(pictures) + rng.normal(0, 12, (80, 3, 32, 32))
    write_lmdb(folder / "pictures", np.clip(noisy, 0, 255).astype(np.uint8), labels)
    nets = (("caffenet", CAFFENET, 0.4), ("smooth", SMOOTH, 0.4), ("squeezenet", SQUEEZENET, 1))
    for name, text, scale in nets:
        (folder / f"{name}.prototxt").write_text(text)
        start = folder / f"{name}.caffemodel"
        random_weights(to_net(parse(text, name)), (3, 32, 32), 16, start, scale)
    digits = load_digits()
    images = np.pad(digits.images.astype(np.uint8), ((0, 0), (1, 1), (1, 1)))[:, None]
    write_lmdb(folder / "digits_train", images[:1000], digits.target[:1000])
    write_lmdb(folder / "digits_test", images[1000:1700], digits.target[1000:1700])
    (folder / "chance.prototxt").write_text(CHANCE)
    return folder


@pytest.fixture(scope="module")
def table(request: pytest.FixtureRequest) -> Iterator[list[str]]:
    with shown(request, "Whole trainings beside caffe train") as lines:
        yield lines


@pytest.mark.parametrize(("net", "rate"), [("caffenet", 0.002), ("squeezenet", 0.01)])
def test_200_iterations_have_the_losses_of_caffe_train(
    place: Path, caffe_home: Path, table: list[str], monkeypatch: pytest.MonkeyPatch,
    net: str, rate: float,
) -> None:  # fmt: skip
    """Beside it in the table: Caffe and Caffe again, from weights that differ in the last digit. At
    higher rates that alone is more than 1e-3, because max pooling's gradient jumps at a tie."""
    monkeypatch.chdir(place)
    solver = f"""net: "{net}.prototxt" base_lr: {rate} momentum: 0.9 weight_decay: 0.0005
        lr_policy: "step" stepsize: 100 gamma: 0.5 max_iter: 200 display: 1
        snapshot_after_train: false solver_mode: CPU"""
    theirs = losses(caffe_train(caffe_home, solver, f"--weights={net}.caffemodel"))
    ours = losses(torch_train(solver, weights=Path(f"{net}.caffemodel")))
    nearby = {
        name: [np.nextafter(b, np.float32(9)) for b in blobs]
        for name, blobs in weights.read(f"{net}.caffemodel").items()
    }
    weights.write(weights.to_net(net, ((n, "", b) for n, b in nearby.items())), "nearby.caffemodel")
    again = losses(caffe_train(caffe_home, solver, "--weights=nearby.caffemodel"))
    worst = furthest(ours, theirs)
    table.append(
        f"{net}, 200 SGD iterations: loss {theirs[0]:.3f} to {theirs[199]:.3f}, worst relative "
        f"difference {worst:.1e}; Caffe from weights one last digit off {furthest(again, theirs):.1e}"
    )
    assert list(theirs) == list(range(200))
    assert theirs[199] < 0.8 * theirs[0], "a net that did not learn would compare little"
    assert worst <= 1e-3


@pytest.mark.parametrize("form", ["BINARYPROTO", "HDF5"])
@pytest.mark.parametrize("kind", RULES)
def test_a_solverstate_handed_over_continues_the_curve(
    place: Path, caffe_home: Path, table: list[str], monkeypatch: pytest.MonkeyPatch,
    kind: str, form: str,
) -> None:  # fmt: skip
    """30 iterations in one engine, 30 in the other, beside 60 of Caffe's: 30 batches are six passes
    over the records, with which both engines begin anew."""
    monkeypatch.chdir(place)
    rule = f"""net: "smooth.prototxt" type: "{kind}" {RULES[kind]} weight_decay: 0.001 display: 1
        average_loss: 1 max_iter: 60 snapshot_format: {form} solver_mode: CPU"""
    suffix = ".h5" if form == "HDF5" else ""
    whole = f'{rule} snapshot: 30 snapshot_prefix: "{kind}_theirs"'
    theirs = losses(caffe_train(caffe_home, whole, "--weights=smooth.caffemodel"))
    second = {i: loss for i, loss in theirs.items() if i >= 30}

    state = Path(f"{kind}_theirs_iter_30.solverstate{suffix}")
    ours = losses(torch_train(f'{rule} snapshot_prefix: "x"', resume=state))
    from_caffe = furthest(ours, second)

    first = f'{rule} snapshot: 30 snapshot_prefix: "{kind}_ours"'
    torch_train(first, weights=Path("smooth.caffemodel"))
    state = Path(f"{kind}_ours_iter_30.solverstate{suffix}")
    again = losses(caffe_train(caffe_home, f'{rule} snapshot_prefix: "x"', f"--snapshot={state}"))
    to_caffe = furthest(again, second)

    table.append(
        f"{kind:8} {form:11} handed over at 30 of 60: Caffe to recaffe {from_caffe:.1e}, recaffe to "
        f"Caffe {to_caffe:.1e}"
    )
    assert min(second.values()) < 0.9 * theirs[0]
    assert max(from_caffe, to_caffe) <= 1e-3


def test_with_crops_mirrors_and_dropout_the_accuracy_is_within_the_seeds_spread(
    place: Path, caffe_home: Path, table: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The difference of the engines' means is less than a seed makes, and than chance explains."""
    monkeypatch.chdir(place)
    ours, theirs = [], []
    for seed in SEEDS:
        solver = f"""net: "chance.prototxt" base_lr: 0.02 momentum: 0.9 weight_decay: 0.0005
            lr_policy: "poly" power: 1 max_iter: 600 test_iter: 7 test_interval: 600
            test_initialization: false snapshot_after_train: false random_seed: {seed}
            solver_mode: CPU"""
        theirs.append(last_accuracy(caffe_train(caffe_home, solver)))
        ours.append(last_accuracy(torch_train(solver)))
    difference = float(np.mean(ours) - np.mean(theirs))
    spread = float(np.sqrt((np.var(ours, ddof=1) + np.var(theirs, ddof=1)) / 2))
    error = spread * (2 / len(SEEDS)) ** 0.5
    table.append(
        f"crop, mirror, dropout, {len(SEEDS)} seeds: accuracy {np.mean(ours):.4f} ± "
        f"{np.std(ours, ddof=1):.4f}, Caffe's {np.mean(theirs):.4f} ± {np.std(theirs, ddof=1):.4f}; "
        f"difference {difference:+.4f} = {difference / error:+.1f} standard errors"
    )
    assert min(*ours, *theirs) > 0.8
    assert spread > 0
    assert abs(difference) < spread
    assert abs(difference) < 3 * error
