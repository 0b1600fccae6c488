"""Files that recaffe writes are read by real Caffe and OpenCV alike, and older forms are upgraded to
the same messages as by Caffe's tools."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from google.protobuf import text_format
from hypothesis import given, settings
from hypothesis import strategies as st

from recaffe.errors import NetError
from recaffe.net import weights
from recaffe.net.blobs import Weights
from recaffe.net.state import read_state, write_state
from recaffe.net.upgrade.files import upgrade_file
from recaffe.proto import caffe_pb2 as pb
from tests.golden.make_formats import SOLVER, TRAINED
from tests.older_nets import messages, v0_nets, v1_nets, v2_nets
from tests.parity.caffe_client import environment

GOLDEN = Path(__file__).parents[1] / "golden" / "formats"
DEPLOY = """
layer { name: "in" type: "Input" top: "in" input_param { shape { dim: 2 dim: 3 dim: 7 dim: 6 } } }
layer { name: "conv" type: "Convolution" bottom: "in" top: "conv"
  convolution_param { num_output: 4 kernel_h: 3 kernel_w: 2 group: 1 } }
layer { name: "norm" type: "BatchNorm" bottom: "conv" top: "norm" }
layer { name: "scale" type: "Scale" bottom: "norm" top: "scale" scale_param { bias_term: true } }
layer { name: "relu" type: "PReLU" bottom: "scale" top: "relu" }
layer { name: "fc" type: "InnerProduct" bottom: "relu" top: "fc"
  inner_product_param { num_output: 5 } }
layer { name: "prob" type: "Softmax" bottom: "fc" top: "prob" }
"""
# net weights input out.npz [copy of the weights]: what pycaffe loads, computes and saves.
PYCAFFE = """
import sys, caffe, numpy as np
net, model, given, out = sys.argv[1:5]
net = caffe.Net(net, caffe.TEST, weights=model)
net.blobs['in'].data[...] = np.load(given)
net.forward()
params = {f'{k}:{i}': b.data for k, v in net.params.items() for i, b in enumerate(v)}
np.savez(out, prob=net.blobs['prob'].data, **params)
for copy in sys.argv[5:]:
    (net.save_hdf5 if copy.endswith('.h5') else net.save)(copy)
"""
Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="session")
def run(caffe_home: Path) -> Run:
    """Start a program of Caffe's, or with `python` its Python; `cwd` is where it works."""

    def start(program: str, *args: object, cwd: Path) -> subprocess.CompletedProcess[str]:
        python = os.environ.get("CAFFE_PYTHON", "/usr/bin/python3.11")
        path = python if program == "python" else str(caffe_home / "bin" / program)
        return subprocess.run(
            [path, *map(str, args)], cwd=cwd, env=environment(caffe_home), capture_output=True,
            text=True, check=False,
        )  # fmt: skip

    return start


def read(path: Path, text: bool) -> pb.NetParameter:
    if text:
        return text_format.Parse(path.read_text(encoding="utf-8"), pb.NetParameter())
    return pb.NetParameter.FromString(path.read_bytes())


@pytest.mark.parametrize("text", [True, False])
@settings(max_examples=150)
@given(net=st.one_of(v0_nets(), v1_nets(), v2_nets()))
def test_any_net_is_upgraded_as_caffes_tool_does(
    text: bool, net: pb.NetParameter, run: Run, tmp_path: Path
) -> None:
    old, theirs, ours = (tmp_path / n for n in ("old", "theirs", "ours"))
    data = net.SerializeToString()
    old.write_bytes(text_format.MessageToString(net, as_utf8=True).encode() if text else data)
    if not data:
        return  # an empty file is a mistake to recaffe, and an empty net to Caffe
    tool = "upgrade_net_proto_text" if text else "upgrade_net_proto_binary"
    done = run(tool, old, theirs, cwd=tmp_path)
    lost = upgrade_file(old, ours)
    assert done.returncode in (0, 1), done.stderr
    # Caffe says nothing of some things that it drops.
    assert done.returncode <= bool(lost), (lost, done.stderr)
    assert read(ours, text) == read(theirs, text)


@settings(max_examples=60)
@given(solver=messages(pb.SolverParameter, skip=("type",), most=6), base=st.floats(0, 1, width=32))
def test_any_solver_is_upgraded_as_caffes_tool_does(
    solver: pb.SolverParameter, base: float, run: Run, tmp_path: Path
) -> None:
    solver.base_lr = base
    (tmp_path / "old").write_text(
        text_format.MessageToString(solver, as_utf8=True), encoding="utf-8"
    )
    done = run("upgrade_solver_proto_text", "old", "theirs", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    upgrade_file(tmp_path / "old", tmp_path / "ours")
    made, wanted = (
        text_format.Parse((tmp_path / n).read_text(encoding="utf-8"), pb.SolverParameter())
        for n in ("ours", "theirs")
    )
    assert made == wanted


@pytest.mark.parametrize(
    "text",
    [
        'layers { layer { name: "x" type: "convolution" } }',
        'layers { bottom: "y" layer { name: "x" type: "relu" } }',
        'input: "d" layers { bottom: "d" top: "p" layer { type: "padding" } }'
        'layers { bottom: "p" top: "r" layer { type: "relu" } }',
        'input: "d" layers { bottom: "d" top: "p" top: "q" layer { type: "padding" } }'
        'layers { bottom: "p" top: "r" layer { type: "conv" } }',
        'layers { type: RELU } layer { type: "ReLU" }',
        "layers { type: RELLU }",
        "layers { param { } }",
        'layer { type: "Clip" clip_param { min: 0 } }',
        "name: 1",
        "layer {",
        "name: 'a' name: 'b'",
    ],
)
def test_a_net_that_caffes_tool_refuses_is_refused(text: str, run: Run, tmp_path: Path) -> None:
    (tmp_path / "old").write_text(text)
    assert run("upgrade_net_proto_text", "old", "theirs", cwd=tmp_path).returncode not in (0, 1)
    with pytest.raises(NetError):
        upgrade_file(tmp_path / "old", tmp_path / "ours")


def deploy_weights() -> Weights:
    rng = np.random.default_rng(0)
    shapes = {
        "conv": [(4, 3, 3, 2), (4,)], "norm": [(4,), (4,), (1,)], "scale": [(4,), (4,)],
        "relu": [(4,)], "fc": [(5, 100), (5,)],
    }  # fmt: skip
    return {
        name: [rng.uniform(0.1, 1, s).astype(np.float32) for s in blobs]
        for name, blobs in shapes.items()
    }


def in_caffe(run: Run, folder: Path, model: Path, *copies: Path) -> tuple[np.ndarray, Weights]:
    """What pycaffe computes with the weights, and the parameters that it loaded."""
    (folder / "deploy.prototxt").write_text(DEPLOY)
    rng = np.random.default_rng(1)
    np.save(folder / "in.npy", rng.normal(size=(2, 3, 7, 6)).astype(np.float32))
    args = (folder / "deploy.prototxt", model, folder / "in.npy", folder / "out.npz", *copies)
    done = run("python", "-c", PYCAFFE, *args, cwd=folder)
    assert done.returncode == 0, done.stderr
    loaded: Weights = {}
    with np.load(folder / "out.npz") as out:
        for key in out.files:
            if key != "prob":
                loaded.setdefault(key.split(":")[0], []).append(out[key])
        return out["prob"], loaded


def assert_equal(one: Weights, two: Weights) -> None:
    assert one.keys() == two.keys()
    for name in one:
        for a, b in zip(one[name], two[name], strict=True):
            np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("end", ["", ".h5"])
def test_written_weights_load_in_caffe_and_opencv_and_come_back(
    end: str, run: Run, tmp_path: Path
) -> None:
    given = deploy_weights()
    model = tmp_path / f"w.caffemodel{end}"
    net = weights.to_net("n", [(k, k, v) for k, v in given.items()])
    kinds = {"conv": "Convolution", "norm": "BatchNorm", "scale": "Scale", "relu": "PReLU"}
    for layer in net.layer:
        layer.type = kinds.get(layer.name, "InnerProduct")
    weights.write(net, model)
    copies = tmp_path / "copy.caffemodel", tmp_path / "copy.caffemodel.h5"
    prob, loaded = in_caffe(run, tmp_path, model, *copies)
    assert_equal(loaded, given)
    for copy in copies:
        assert_equal(weights.read(copy), given)
    if not end:  # OpenCV reads no HDF5
        other = cv2.dnn.readNetFromCaffe(str(tmp_path / "deploy.prototxt"), str(model))
        other.setInput(np.load(tmp_path / "in.npy"))
        np.testing.assert_allclose(other.forward(), prob, rtol=1e-4, atol=1e-6)


def test_weights_of_2014_are_the_same_in_caffe_before_and_after_the_upgrade(
    run: Run, tmp_path: Path
) -> None:
    rng = np.random.default_rng(0)
    old = pb.NetParameter()
    for name, kind, shapes in (
        ("conv", "CONVOLUTION", [(4, 3, 3, 2), (1, 1, 1, 4)]),
        ("fc", "INNER_PRODUCT", [(1, 1, 5, 100), (1, 1, 1, 5)]),
    ):
        layer = old.layers.add(name=name, type=getattr(pb.V1LayerParameter, kind))
        for n, c, h, w in shapes:
            blob = layer.blobs.add(num=n, channels=c, height=h, width=w)
            blob.data.extend(rng.normal(size=n * c * h * w))
    (tmp_path / "old").write_bytes(old.SerializeToString())
    assert upgrade_file(tmp_path / "old", tmp_path / "new") == []
    (before, one), (after, two) = (in_caffe(run, tmp_path, tmp_path / n) for n in ("old", "new"))
    np.testing.assert_array_equal(before, after)
    assert_equal(one, two)
    for name, blobs in weights.read(tmp_path / "old").items():
        for ours, theirs in zip(blobs, one[name], strict=True):
            np.testing.assert_array_equal(ours.ravel(), theirs.ravel())


@pytest.mark.parametrize("kind", ["SGD", "Adam"])
@pytest.mark.parametrize("end", ["", ".h5"])
def test_caffe_resumes_from_a_state_that_recaffe_wrote(
    kind: str, end: str, run: Run, tmp_path: Path
) -> None:
    """Read Caffe's snapshot, write it again: Caffe goes on to the same weights from either."""
    (tmp_path / "shared.prototxt").write_text(TRAINED)
    text = (
        SOLVER.replace('"Adam"', f'"{kind}"')
        + f"snapshot_format: {'HDF5' if end else 'BINARYPROTO'}"
    )
    text = text if kind == "Adam" else text.replace("momentum2: 0.99", "")
    (tmp_path / "solver.prototxt").write_text(text)
    train = ("train", "--solver=solver.prototxt")
    done = run("caffe", *train, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    state, model = (f"shared_iter_5.{n}{end}" for n in ("solverstate", "caffemodel"))
    (tmp_path / "solver.prototxt").write_text(text.replace("max_iter: 5", "max_iter: 9"))
    results = []
    for rewritten in (False, True):
        folder = tmp_path / str(rewritten)
        folder.mkdir()
        for name in ("shared.prototxt", "solver.prototxt", state, model):
            shutil.copy(tmp_path / name, folder)
        if rewritten:
            write_state(read_state(folder / state), folder / state)
            net = pb.NetParameter.FromString((GOLDEN / "shared.caffemodel").read_bytes())
            found = weights.read(folder / model, net_layers())
            for layer in net.layer:
                del layer.blobs[:]
                layer.blobs.extend(weights.to_blob(b) for b in found.get(layer.name, ()))
            weights.write(net, folder / model)
        done = run("caffe", *train, f"--snapshot={state}", cwd=folder)
        assert done.returncode == 0, done.stderr
        results.append(folder / f"shared_iter_9.caffemodel{end}")
    assert_equal(*(weights.read(path, net_layers()) for path in results))
    assert_equal(
        *({"h": read_state(str(p).replace("caffemodel", "solverstate")).history} for p in results)
    )


def net_layers() -> list[pb.LayerParameter]:
    return list(text_format.Parse(TRAINED, pb.NetParameter()).layer)
