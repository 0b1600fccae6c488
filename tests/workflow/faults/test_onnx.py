"""model.onnx on request: the shipped net for other runtimes, which follows the weights."""

from __future__ import annotations

import csv
import subprocess
import sys
from pathlib import Path

import numpy as np

from tests.workflow.faults.small import Small

# What somebody without recaffe would write, with the shipped preprocess.py beside the model.
CODE = """
import sys
import numpy, onnxruntime
from preprocess import blob
net = onnxruntime.InferenceSession("model.onnx", providers=["CPUExecutionProvider"])
name = net.get_inputs()[0].name
for picture in sys.argv[1:]:
    print(*net.run(None, {name: blob(picture)})[0][0])
"""


def test_a_model_has_an_onnx_on_request_that_gives_the_tests_probabilities(
    finished: Small, tmp_path: Path
) -> None:
    small = finished.copy(tmp_path / "own")
    before = small.artifacts()
    small.change(model={"onnx": True})
    assert small.run() - {"report"} == {"onnx:first"}
    assert small.artifacts() == before
    assert small.plan() == {}

    with (small.results / "first" / "predictions.csv").open(encoding="utf-8", newline="") as f:
        tested = list(csv.DictReader(f))
    pictures = [str(small.folder / "pics" / row["path"]) for row in tested]
    done = subprocess.run(
        [sys.executable, "-c", CODE, *pictures],
        cwd=small.results / "first" / "model",
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    said = np.array([line.split() for line in done.stdout.splitlines()], float)
    wanted = [[row[f"p:{name}"] for name in "abc"] for row in tested]
    np.testing.assert_allclose(said, np.array(wanted, float), atol=2e-6)

    small.change(train={"base_lr": 0.02})
    assert "onnx" in small.plan()
