"""Whole nets beside real Caffe, on real photographs: every blob forward, every parameter backward."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from google.protobuf import text_format
from PIL import Image
from sklearn.datasets import load_sample_images

from recaffe.config import MODELS
from recaffe.engines.torch.net import Net
from recaffe.net import graph, parse
from recaffe.proto import caffe_pb2 as pb
from tests.parity import nets
from tests.parity.caffe_client import Answer, Caffe
from tests.parity.compare import FORWARD, TABLE, error, ours, read
from tests.parity.draw import Case

CLASSES = 10
BACKWARD = 1e-4


def photographs(size: int, channels: int = 3) -> np.ndarray:
    """Two photographs as Caffe's nets see them: BGR less a mean pixel, or gray from 0 to 1."""
    images = [Image.fromarray(x).resize((size, size)) for x in load_sample_images().images]
    if channels == 1:
        return np.stack([np.asarray(x.convert("L"), np.float32)[None] / 256 for x in images])
    mean = np.array([104, 117, 123], np.float32)
    bgr = [np.asarray(x, np.float32)[:, :, ::-1] - mean for x in images]
    return np.stack([np.ascontiguousarray(x.transpose(2, 0, 1)) for x in bgr])


def published(name: str) -> str:
    """A zoo net's layers in TRAIN, without data layers, dropout off, as it is random."""
    net = pb.NetParameter()
    for layer in graph.of_phase(parse.read_net(MODELS / name / "train_val.prototxt"), pb.TRAIN):
        if layer.type in graph.DATA:
            continue
        copy = net.layer.add()
        copy.CopyFrom(layer)
        del copy.include[:]
        if copy.type == "Dropout":
            copy.dropout_param.dropout_ratio = 0
    return text_format.MessageToString(net)


def values(net: Net, seed: int) -> dict[str, list[np.ndarray]]:
    """Random parameters with which activations neither vanish nor explode."""
    rng = np.random.default_rng(seed)
    kinds = {x.name: x.type for x in net.layers}
    out = {}
    for name, blobs in net.blobs.items():
        if kinds[name] == "BatchNorm":
            out[name] = [np.zeros(b.shape) for b in blobs]
        elif kinds[name] == "Scale":
            out[name] = [rng.uniform(0.5, 1.5, blobs[0].shape), rng.normal(0, 0.1, blobs[1].shape)]
        else:
            spread = [(2 / np.prod(b.shape[1:])) ** 0.5 if b.dim() > 1 else 0.1 for b in blobs]
            out[name] = [rng.normal(0, s, b.shape) for s, b in zip(spread, blobs, strict=True)]
    return {name: [b.astype(np.float32) for b in blobs] for name, blobs in out.items()}


@dataclass
class Runs:
    """The same net in both engines, and in float64."""

    theirs: Answer
    mine: Answer
    exact: Answer


def run(caffe: Caffe, case: Case, params: dict[str, list[np.ndarray]]) -> Runs:
    """One pass of a net in each."""
    net = read(case.text())
    theirs = caffe.run(case.text(), case.phase, case.blobs, params, backward=case.backward)
    mine, exact = (
        ours(net, case.phase, case.blobs, params, {}, dtype=dtype)
        for dtype in (torch.float32, torch.float64)
    )
    return Runs(theirs, mine, exact)


def furthest(a: Answer, b: Answer) -> float:
    """Greatest error of a blob that both have: Caffe also has the copies that it makes."""
    return max(error(a.blobs[name], b.blobs[name]) for name in set(a.blobs) & set(b.blobs))


def gradient_errors(a: Answer, b: Answer) -> np.ndarray:
    """For each learned parameter the distance of its gradients, relative to their length."""
    return np.array(
        [
            np.linalg.norm((x - y).ravel()) / np.linalg.norm(y.ravel())
            for name in b.param_diffs
            for x, y in zip(a.param_diffs[name], b.param_diffs[name], strict=True)
            if np.linalg.norm(y.ravel()) > 0
        ]
    )


def assert_forward_agrees(runs: Runs, name: str) -> float:
    """Both engines' blobs differ by 1e-5, or both are as far from what float64 gives.

    Dozens of layers, each normalised by statistics of few values, amplify the last digits of sums
    in another order.
    """
    between = furthest(runs.mine, runs.theirs)
    mine, theirs = furthest(runs.mine, runs.exact), furthest(runs.theirs, runs.exact)
    assert between <= FORWARD or mine <= 2 * theirs, f"{name}: {mine:.1e}, Caffe {theirs:.1e}"
    return between


NETS: dict[str, tuple[Callable[[], str], int, int]] = {
    "LeNet": (lambda: published("lenet"), 28, 1),
    "CaffeNet": (lambda: published("caffenet"), 227, 3),
    "SqueezeNet v1.1": (lambda: published("squeezenet_v1.1"), 227, 3),
    "GoogLeNet, three heads": (lambda: nets.googlenet(CLASSES), 224, 3),
    "ResNet-18": (lambda: nets.resnet(18, CLASSES), 224, 3),
    "ResNet-50": (lambda: nets.resnet(50, CLASSES), 224, 3),
}


def training_case(name: str) -> tuple[Case, dict[str, list[np.ndarray]]]:
    """A net in TRAIN with two photographs, and its parameters."""
    build, size, channels = NETS[name]
    blobs = {"data": photographs(size, channels), "label": np.array([3, 7], np.float32)}
    case = Case(build(), blobs, force_backward=False)
    template = Net(read(case.text()), pb.TRAIN, {k: v.shape for k, v in blobs.items()})
    return case, values(template, seed=len(name))


@pytest.mark.parametrize("name", NETS)
def test_training_pass_computes_what_caffe_computes(name: str, caffe: Caffe) -> None:
    case, params = training_case(name)
    runs = run(caffe, case, params)
    forward = assert_forward_agrees(runs, name)
    assert runs.mine.loss == pytest.approx(runs.theirs.loss, rel=1e-5)
    between = gradient_errors(runs.mine, runs.theirs)
    mine = gradient_errors(runs.mine, runs.exact)
    theirs = gradient_errors(runs.theirs, runs.exact)
    TABLE.add(f"{name} (median gradient)", forward, float(np.median(between)))
    # A ReLU or a maximum whose candidates agree to the last digit may decide otherwise, and all
    # gradients below it differ: in each engine from float64, and from each other.
    assert np.median(between) <= BACKWARD or np.median(mine) <= 2 * np.median(theirs)
    assert between.max() <= 1e-2 or mine.max() <= 2 * theirs.max()


def test_batch_norm_net_predicts_from_its_statistics_what_caffe_predicts(caffe: Caffe) -> None:
    case, params = training_case("ResNet-18")
    learned = ours(read(case.text()), "TRAIN", case.blobs, params, {}).params
    runs = run(caffe, replace(case, phase="TEST", backward=False), learned)
    TABLE.add("ResNet-18 in TEST", assert_forward_agrees(runs, "ResNet-18"), None)
    fused = Net(read(case.text()), pb.TEST, {k: v.shape for k, v in case.blobs.items()})
    fused.load(learned)  # BatchNorm and Scale in one kernel, as nobody looks on
    with torch.no_grad():
        blobs = fused({k: torch.from_numpy(v) for k, v in case.blobs.items()})
    assert error(blobs["fc"].numpy(), runs.theirs.blobs["fc"]) <= FORWARD
