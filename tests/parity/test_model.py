"""What other programs make of a model's folder: real Caffe by its example, onnxruntime."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import onnxruntime

from recaffe.cli import main
from recaffe.evaluate import predictions
from recaffe.model import NET, WEIGHTS
from tests.parity.caffe_client import environment
from tests.small_models import build, check_example, in_test_order


def test_the_pycaffe_example_agrees(caffe_home: Path, tmp_path: Path) -> None:
    (tmp_path / "made").mkdir()
    built = build(tmp_path / "made")
    model = tmp_path / "taken along"
    shutil.copytree(built / "results" / "own" / "first" / "model", model)
    script = model / "classify_pycaffe.py"
    assert len(script.read_text(encoding="utf-8").splitlines()) <= 25
    env = environment(caffe_home)
    del env["GLOG_minloglevel"]
    python = os.environ.get("CAFFE_PYTHON", "/usr/bin/python3.11")
    done = subprocess.run(
        [python, script, *in_test_order(built)],
        cwd="/", env=env, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "conv" not in done.stderr, "it is quiet"
    check_example(done.stdout, built, 1e-5)


def test_an_onnx_beside_it_agrees(tmp_path: Path) -> None:
    built = build(tmp_path)
    model = built / "results" / "own" / "first" / "model"
    assert main(["convert", *(str(model / n) for n in (NET, WEIGHTS, "net.onnx"))]) == 0
    spec = importlib.util.spec_from_file_location("preprocess", model / "preprocess.py")
    assert spec and spec.loader
    example = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(example)
    session = onnxruntime.InferenceSession(model / "net.onnx", providers=["CPUExecutionProvider"])
    blobs = np.concatenate([example.blob(path) for path in in_test_order(built)])
    (scores,) = session.run(None, {session.get_inputs()[0].name: blobs})
    table = predictions.read(model.parent / "predictions.csv")
    assert np.abs(scores - table.probabilities).max() < 1e-5
