"""Ten crops as real Caffe takes and scores them: `caffe.io.oversample`, the caffe engine, the example."""

from __future__ import annotations

import os
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from recaffe.engines import views
from recaffe.engines.base import PredictJob
from recaffe.engines.caffe.predict import predict as by_caffe
from recaffe.engines.torch.predict import predict as by_torch
from tests.parity.caffe_client import environment
from tests.small_models import build, check_example, in_test_order

PYTHON = os.environ.get("CAFFE_PYTHON", "/usr/bin/python3.11")
OVERSAMPLE = "import sys, numpy, caffe; numpy.save(sys.argv[2], caffe.io.oversample([numpy.load(sys.argv[1])], (9, 9)))"


@pytest.mark.parametrize(("height", "width"), [(12, 10), (9, 14), (13, 16), (256, 256)])
def test_the_views_are_those_of_caffes_oversample(
    caffe_home: Path, tmp_path: Path, height: int, width: int
) -> None:
    picture = np.random.default_rng(0).random((height, width, 3), np.float32)
    np.save(tmp_path / "in.npy", picture)
    command = [PYTHON, "-c", OVERSAMPLE, str(tmp_path / "in.npy"), str(tmp_path / "out.npy")]
    subprocess.run(command, env=environment(caffe_home), check=True)
    wanted = np.load(tmp_path / "out.npy")
    assert len(wanted) == views.COUNT
    for view, crop in enumerate(wanted):
        y, x, mirrored = views.place(view, (height - 9, width - 9))
        own = picture[y : y + 9, x : x + 9]
        assert (crop == (own[:, ::-1] if mirrored else own)).all(), view


@pytest.mark.parametrize("mean", ["file", "none", [90, 100, 110.5]])
def test_the_engines_score_the_same_crops(caffe_home: Path, tmp_path: Path, mean: Any) -> None:
    built = build(tmp_path, test_crops=10, mean=mean)
    data, run = built / "results" / "own" / "data", built / "results" / "own" / "first"
    job = PredictJob(
        run / "deploy.prototxt", run / "final.caffemodel", data / "test_lmdb", crop_size=9, scale=0.01,
        mean_file=data / "mean.binaryproto" if mean == "file" else None,
        mean_values=tuple(mean) if isinstance(mean, list) else (), batch_size=4, crops=10, device="cpu",
    )  # fmt: skip
    found = by_caffe(job)
    assert np.abs(found.scores - by_torch(job).scores).max() < 1e-5
    assert (found.labels == by_torch(job).labels).all()
    one = replace(job, crops=1)
    assert np.abs(by_caffe(one).scores - by_torch(one).scores).max() < 1e-5


def test_the_pycaffe_example_averages_the_same_crops(caffe_home: Path, tmp_path: Path) -> None:
    built = build(tmp_path, test_crops=10)
    script = built / "results" / "own" / "first" / "model" / "classify_pycaffe.py"
    done = subprocess.run(
        [PYTHON, script, *in_test_order(built)],
        cwd="/", env=environment(caffe_home), capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    check_example(done.stdout, built, 1e-5)
