"""The torch engine computes what Caffe computes, and a break in training leaves no trace."""

from __future__ import annotations

import os
import signal
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from recaffe import config, solver
from recaffe.config import MODELS
from recaffe.engines import jobs
from recaffe.engines.base import PredictJob, TrainJob
from recaffe.engines.events import Watcher
from recaffe.engines.torch.predict import predict
from recaffe.engines.torch.train import train
from recaffe.errors import Interrupted, TrainError, WeightsError
from recaffe.files import write_json, write_text
from recaffe.lmdb import read
from recaffe.lmdb.read import open_lmdb, parse_datum, pixels
from recaffe.lmdb.write import write
from recaffe.net import deploy, parse, patch, prepare, weights
from recaffe.net.prepare import walk_train
from tests.conftest import save, texture

NET = """
name: "small"
layer { name: "data" type: "Data" top: "data" top: "label" include { phase: TRAIN }
  transform_param { scale: 0.02 } }
layer { name: "data" type: "Data" top: "data" top: "label" include { phase: TEST }
  transform_param { scale: 0.02 } }
layer { name: "conv" type: "Convolution" bottom: "data" top: "conv"
  convolution_param { num_output: 8 kernel_size: 3 weight_filler { type: "msra" } } }
layer { name: "relu" type: "ReLU" bottom: "conv" top: "conv" }
layer { name: "pool" type: "Pooling" bottom: "conv" top: "pool" pooling_param { pool: MAX kernel_size: 3 stride: 2 } }
layer { name: "drop" type: "Dropout" bottom: "pool" top: "pool" dropout_param { dropout_ratio: 0.3 } }
layer { name: "fc" type: "InnerProduct" bottom: "pool" top: "fc"
  inner_product_param { num_output: 9 weight_filler { type: "xavier" } } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "fc" bottom: "label" top: "loss" }
"""


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """A small data set in LMDBs, a patched net, its solver: 3 classes told by their hue."""
    monkeypatch.chdir(tmp_path)
    run = {"weights": "none", "net": "net.prototxt", "mean": [100, 100, 100], "epochs": 6,
           "batch_size": 8, "base_lr": 0.0005, "threads": 1, "crop_size": 20}  # fmt: skip
    Path("net.prototxt").write_text(NET)
    full = config.complete(
        {"dataset": "d", "images": "x", "runs": {"a": run}, "lmdb": {"width": 24, "height": 24}}
    )
    data = Path("data")
    for split, start, n in (("train", 0, 60), ("val", 100, 13), ("test", 200, 17)):
        lines = []
        for i in range(start, start + n):
            save(texture(i, i % 3), data / f"{i}.png")
            lines.append(f"{i}.png {i % 3}\n")
        (data / f"{split}.txt").write_text("".join(lines))
        write(data / f"{split}.txt", "data", data / f"{split}_lmdb", full, 0, 1)
        write_json(data / f"{split}_lmdb.json", read.describe(data / f"{split}_lmdb"))
    write_text(data / "labels.txt", "r\ng\nb\n")
    return full["runs"]["a"]


def make_job(run: dict[str, Any], name: str, **changes: Any) -> TrainJob:
    folder = Path(name)
    row = {**run, **changes}
    settings = {"stage": 1, "dataset": "d", "mean": "", "run": row}
    prepare.prepare(Path("net.prototxt"), Path("data"), None, settings).write(folder)
    built = solver.build(row, str(folder / "train_val.prototxt"), str(folder / "snap"), 60, 13)
    write_text(folder / "solver.prototxt", solver.to_text(built))
    return jobs.train_job(
        settings,
        net=folder / "train_val.prototxt",
        solver=folder / "solver.prototxt",
        net_info=folder / "net.json",
        records=(Path("data/train_lmdb.json"), Path("data/val_lmdb.json")),
        weights=[],
        mean=[],
        snapshots=folder / "snapshots",
        title=name,
    )


def test_training_learns_and_predicts_each_record_once(workplace: dict[str, Any]) -> None:
    job = make_job(workplace, "learn", epochs=25, base_lr=0.01)
    result = train(job)
    assert result.val_accuracy > 0.9
    found = predict(
        PredictJob(Path("learn/deploy.prototxt"), job.final, Path("data/test_lmdb"), 20,
                   mean_values=(100, 100, 100), scale=0.02, batch_size=5)
    )  # fmt: skip
    assert found.keys == read.keys("data/test_lmdb")
    assert found.scores.shape == (17, 3)
    assert np.allclose(found.scores.sum(1), 1, atol=1e-5)
    assert (found.scores.argmax(1) == found.labels).mean() > 0.9


def test_a_layer_that_the_weights_lack_is_no_prediction(workplace: dict[str, Any]) -> None:
    job = make_job(workplace, "lacking", epochs=1)
    train(job)
    assert job.final
    held = weights.read(job.final)
    weights.write(weights.to_net("", [("conv", "Convolution", held["conv"])]), "half.caffemodel")
    half = PredictJob(Path("lacking/deploy.prototxt"), Path("half.caffemodel"), Path("data/test_lmdb"), 20)  # fmt: skip
    with pytest.raises(WeightsError, match="fc_d: new; net 3×648 3, weights have no such layer"):
        predict(half)
    assert predict(half, blob="pool").scores.shape == (17, 8), "it's before what is missing"


def test_predictions_agree_with_opencv(workplace: dict[str, Any]) -> None:
    job = make_job(workplace, "opencv", epochs=2)
    train(job)
    ours = predict(
        PredictJob(Path("opencv/deploy.prototxt"), job.final, Path("data/test_lmdb"), 20,
                   mean_values=(100, 100, 100), scale=0.02, batch_size=4)
    )  # fmt: skip
    net = cv2.dnn.readNetFromCaffe("opencv/deploy.prototxt", str(job.final))
    with open_lmdb("data/test_lmdb") as env, env.begin() as txn:
        for i, (_, value) in enumerate(txn.cursor()):
            record = pixels(parse_datum(value)).astype(np.float32) - 100
            record *= np.float32(0.02)
            net.setInput(record[None, :, 2:22, 2:22])
            assert np.abs(net.forward().ravel() - ours.scores[i]).max() < 1e-5


@pytest.mark.parametrize("name", ["squeezenet_v1.1", "caffenet", "lenet"])
def test_zoo_nets_agree_with_opencv_layer_by_layer(name: str, tmp_path: Path) -> None:
    import torch

    from recaffe.engines.torch.net import Net
    from recaffe.proto import caffe_pb2 as pb

    shape = (1, 28, 28) if name == "lenet" else (3, 227, 227)
    tree = parse.read_tree(MODELS / name / "train_val.prototxt")
    patch.patch(tree, patch.PatchSettings("x", 5, "a", "b", 2, 2))
    rng = np.random.default_rng(0)
    blobs = []
    for s in walk_train(parse.to_net(tree), shape, 2):
        if s.params:
            values = [
                rng.normal(0, 1.4 / max(1, np.prod(p[1:])) ** 0.5, p).astype(np.float32)
                for p, _ in s.params
            ]
            blobs.append((s.layer.name, s.layer.type, values))
    weights.write(weights.to_net(name, blobs), tmp_path / "w.caffemodel")
    write_text(tmp_path / "deploy.prototxt", deploy.deploy(tree, shape).render())
    picture = rng.normal(0, 50, (1, *shape)).astype(np.float32)

    theirs = cv2.dnn.readNetFromCaffe(
        str(tmp_path / "deploy.prototxt"), str(tmp_path / "w.caffemodel")
    )
    theirs.enableFusion(False)
    theirs.setInput(picture)
    net = Net(parse.read_net(tmp_path / "deploy.prototxt"), pb.TEST, {"data": (1, *shape)})
    net.load(weights.read(tmp_path / "w.caffemodel"))
    with torch.no_grad():
        ours = net({"data": torch.from_numpy(picture)})
    compared = 0
    for layer in net.layers:
        if layer.type in ("Convolution", "InnerProduct", "Pooling", "LRN", "Softmax", "Concat"):
            wanted = theirs.forward(layer.name)
            # In-place layers overwrite the blob, so only what stays as it was is compared.
            if any(x is not layer and layer.top[0] in x.top for x in net.layers):
                continue
            mine = ours[layer.top[0]].numpy()
            assert np.abs(mine - wanted.reshape(mine.shape)).max() <= 1e-4 * np.abs(wanted).max()
            compared += 1
    assert compared >= 3


def stop_after(job: TrainJob, seconds: float) -> bool:
    """Send SIGINT to ourselves while the job trains; whether it arrived in time."""
    timer = threading.Timer(seconds, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    try:
        train(job)
        return False
    except Interrupted:
        return True
    finally:
        timer.cancel()


def test_interrupted_training_ends_bit_for_bit_as_uninterrupted(workplace: dict[str, Any]) -> None:
    whole = make_job(workplace, "whole", epochs=40)
    train(whole)
    broken = replace(make_job(workplace, "broken", epochs=40), title="broken")
    breaks = 0
    while stop_after(broken, 0.4) and breaks < 50:
        breaks += 1
    assert breaks, "the training was over before it could be stopped"
    one, two = weights.read(whole.final), weights.read(broken.final)
    assert all((a == b).all() for name in one for a, b in zip(one[name], two[name], strict=True))
    drop = {2, 5}  # seconds, pictures a second
    tables = [
        [
            [v for i, v in enumerate(line.split(",")) if i not in drop]
            for line in j.csv.read_text().splitlines()
        ]
        for j in (whole, broken)
    ]
    assert tables[0] == tables[1]


def test_a_damaged_snapshot_is_passed_over(
    workplace: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    job = make_job(workplace, "damaged", epochs=40)
    assert stop_after(job, 0.5)
    newest = max(
        job.snapshots.glob("snap_iter_*.caffemodel"), key=lambda p: int(p.stem.rsplit("_", 1)[1])
    )
    newest.write_bytes(newest.read_bytes()[:-7])
    train(job)
    assert f"{newest.name} has changed" in capsys.readouterr().out


def test_other_data_or_rates_never_meet_old_snapshots(workplace: dict[str, Any]) -> None:
    one = make_job(workplace, "one").snapshots.name
    assert make_job(workplace, "one").snapshots.name == one
    assert make_job(workplace, "one", base_lr=0.1).snapshots.name != one
    assert make_job(workplace, "one", seed=5).snapshots.name != one
    info = Path("data/val_lmdb.json")
    info.write_text(info.read_text().replace('"sha256": "', '"sha256": "0'))
    assert make_job(workplace, "one").snapshots.name != one


def test_a_rate_too_high_stops_with_the_usual_causes(workplace: dict[str, Any]) -> None:
    with pytest.raises(TrainError, match=r"loss is (nan|inf|stuck).*base_lr is too high"):
        train(make_job(workplace, "wild", base_lr=1e9, epochs=30))


def test_the_watcher_wants_three_stuck_reports() -> None:
    watcher = Watcher()
    watcher.see(1, 87.3365)
    watcher.see(2, 87.3365)
    watcher.see(3, 2.0)
    watcher.see(4, 87.3365)
    watcher.see(5, 87.3366)
    with pytest.raises(TrainError, match=r"87.3365 at iteration 6"):
        watcher.see(6, 87.3365)


def test_patience_stops_early(workplace: dict[str, Any]) -> None:
    result = train(make_job(workplace, "patient", epochs=60, base_lr=1e-30, patience=3))
    assert result.last_iteration < 60 * 60 // 8
    assert "3" in result.reason


def test_raised_patience_goes_on_as_if_it_had_been_so_from_the_start(
    workplace: dict[str, Any],
) -> None:
    settings = {"epochs": 20, "base_lr": 1e-30}
    whole, *_, raised = all_jobs = [
        make_job(workplace, name, patience=patience, **settings)
        for name, patience in (("whole", 5), ("raised", 2), ("raised", 4), ("raised", 5))
    ]
    ends = [train(job).last_iteration for job in all_jobs]
    assert ends[1] < ends[2] < ends[3] == ends[0]
    assert validations(raised) == validations(whole)


def validations(job: TrainJob) -> list[tuple[str, str, str]]:
    """Iteration, accuracy and loss of each."""
    assert job.csv is not None
    rows = [row.split(",") for row in job.csv.read_text().splitlines()[1:]]
    return [(row[0], row[6], row[7]) for row in rows if row[6]]


def test_the_best_validation_is_the_one_reported(workplace: dict[str, Any]) -> None:
    job = make_job(workplace, "best", epochs=10, base_lr=0.01)
    result = train(job)
    best = [r for r in job.csv.read_text().splitlines()[1:] if r.split(",")[6]]
    assert max(float(r.split(",")[6]) for r in best) == pytest.approx(result.val_accuracy, abs=1e-5)
