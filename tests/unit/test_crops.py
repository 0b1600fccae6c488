"""Testing with ten crops: the mean of ten passes, in the workflow and in the model that is shipped."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from recaffe import mean
from recaffe.cli import main
from recaffe.engines import views
from recaffe.engines.base import PredictJob
from recaffe.engines.torch.net import Net
from recaffe.engines.torch.predict import predict
from recaffe.errors import NetError
from recaffe.lmdb.datum import parse_datum, pixels
from recaffe.lmdb.read import open_records
from recaffe.model import NOTE
from recaffe.net import weights
from recaffe.net.parse import read_net
from recaffe.proto import caffe_pb2 as pb
from recaffe.report.sections.augment import SHOWN
from tests.small_models import build, check_example, in_test_order, same_as_predictions


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with a mean picture, tested with ten crops of 9×9 of records of 12×10; and augmented."""
    augment = {"rotate": 10, "mixup": 0.2}
    return build(tmp_path_factory.mktemp("crops"), test_crops=10, mean="file", augment=augment)


@pytest.fixture
def job(built: Path) -> PredictJob:
    data, run = built / "results" / "own" / "data", built / "results" / "own" / "first"
    return PredictJob(
        run / "deploy.prototxt", run / "final.caffemodel", data / "test_lmdb", crop_size=9, scale=0.01,
        mean_file=data / "mean.binaryproto", batch_size=4, crops=10, device="cpu",
    )  # fmt: skip


def test_ten_crops_are_the_mean_of_ten_passes(job: PredictJob) -> None:
    param = read_net(job.deploy)
    net = Net(param, pb.TEST, {"data": (1, 3, 9, 9)})
    net.load(weights.read(job.weights, net.layers))
    taken = mean.read(job.mean_file)  # type: ignore[arg-type]
    wanted = []
    with open_records(job.lmdb) as found:
        for _, value in found:
            whole = (pixels(parse_datum(value)).astype(np.float32) - taken) * np.float32(0.01)
            scores = []
            for y, x in ((0, 0), (0, 3), (1, 0), (1, 3), (0, 1)):
                crop = whole[:, y : y + 9, x : x + 9]
                for view in (crop, crop[:, :, ::-1]):
                    blob = torch.from_numpy(np.ascontiguousarray(view[None]))
                    scores.append(net({"data": blob})[net.outputs[-1]].detach().numpy().ravel())
            wanted.append(np.mean(scores, 0))
    found_scores = predict(job).scores
    assert np.allclose(found_scores, wanted, atol=1e-6)
    one = predict(replace(job, crops=1)).scores
    assert np.abs(found_scores - one).max() > 1e-3, "they tell something else than the centre"
    assert (predict(replace(job, crops=1, batch_size=4)).scores == one).all()


def test_crops_that_would_be_the_same_are_refused(job: PredictJob) -> None:
    with pytest.raises(NetError, match=r"crop_size is 0 \(12×10\)"):
        predict(replace(job, crop_size=0))
    with pytest.raises(NetError, match=r"records have the size of the crop \(9×9\)"):
        views.check(10, 9, (9, 9))
    views.check(10, 9, (9, 10))
    views.check(1, 9, (9, 9))


def test_predict_gives_the_tests_own_probabilities(
    built: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = tmp_path / "model"
    shutil.copytree(built / "results" / "own" / "first" / "model", model)
    paths = in_test_order(built)
    assert main(["predict", str(model), *paths, "--format=csv", "--top=9", "--threads=1"]) == 0
    same_as_predictions(capsys.readouterr().out, built / "results" / "own" / "first")


def test_the_model_says_how_it_was_trained_and_tested(built: Path) -> None:
    run = built / "results" / "own" / "first"
    note = json.loads((run / "model" / NOTE).read_text(encoding="utf-8"))
    assert note["preprocessing"]["crops"] == 10
    assert note["training"]["augment"] == {"rotate": 10, "mixup": 0.2}
    card = (run / "model" / "README.md").read_text(encoding="utf-8")
    assert "the mean of the ten" in card
    assert "rotate ±10°, mixup 0.2" in card
    chain = json.loads((run / "provenance.json").read_text(encoding="utf-8"))
    assert chain["augment"] == {"rotate": 10, "mixup": 0.2}
    assert chain["test_crops"] == 10
    report = (run.parent / "report.html").read_text(encoding="utf-8")
    assert "Training pictures were changed: rotate ±10°, mixup 0.2." in report
    assert "Tested with the mean of 10 crops of each picture." in report
    assert report.count('alt="version') == SHOWN


def test_the_opencv_example_averages_the_same_crops(built: Path) -> None:
    script = built / "results" / "own" / "first" / "model" / "classify_opencv.py"
    done = subprocess.run(
        [sys.executable, script, *in_test_order(built)], cwd="/", capture_output=True, text=True, check=False
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    check_example(done.stdout, built, 2e-5)
