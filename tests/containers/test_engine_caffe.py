"""`engine: caffe` with the real binary: stops, resumes, choices, and the same results as the other engine."""

from __future__ import annotations

import os
import shutil
import signal
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from recaffe import stop
from recaffe.engines import pick
from recaffe.engines.base import PredictJob, TrainJob
from recaffe.engines.store import Store
from recaffe.errors import WeightsError
from recaffe.net import weights
from recaffe.net.parse import read_net
from recaffe.net.state import read_state
from recaffe.proto import caffe_pb2 as pb
from tests.containers.real_caffe import is_gone, is_pending, job_in, needs_caffe, rows, running

pytestmark = needs_caffe
# Long enough that no machine is through with it while a test looks.
LONG = {"max_iter": 1_000_000, "test_interval": 1000, "snapshot": 1000, "display": 1000}


def iterations(job: TrainJob) -> list[int]:
    assert job.snapshots is not None
    return Store(job.snapshots).iterations()


def test_a_training_leaves_caffes_log_a_table_and_the_best_weights(tmp_path: Path) -> None:
    job = job_in(tmp_path, select="best")
    result = pick.train(job)
    assert (result.last_iteration, result.reason) == (16, "reached max_iter")
    assert result.device == "CPU, 1 threads (Caffe)"
    assert [(r["iteration"], bool(r["loss"]), bool(r["val_accuracy"])) for r in rows(job)] == [
        ("0", False, True), ("0", True, False), ("4", True, False), ("8", False, True),
        ("8", True, False), ("12", True, False), ("16", False, True),
    ]  # fmt: skip
    assert job.log
    assert job.final
    assert job.snapshots
    said = job.log.read_text(encoding="utf-8")
    assert said.count("Iteration 8, Testing net (#0)") == 1, "Caffe's line, and no second one"
    assert said.count("Optimization Done.") == 2
    assert "Initializing solver from parameters" in said
    best = max((float(r["val_accuracy"]), -float(r["val_loss"]), int(r["iteration"])) for r in rows(job) if r["val_accuracy"])  # fmt: skip
    assert (result.iteration, result.val_accuracy) == (best[2], best[0])
    kept, final = weights.read(Store(job.snapshots).best(result.iteration)), weights.read(job.final)
    assert all(np.array_equal(a, b) for n in kept for a, b in zip(kept[n], final[n], strict=True))
    net = pb.NetParameter.FromString(job.final.read_bytes())
    assert net.layer[0].data_param.source == str(tmp_path / "train"), "the link isn't told"


def test_records_are_read_without_a_trace_beside_them(tmp_path: Path) -> None:
    job = job_in(tmp_path)
    for name in ("train", "val"):
        (tmp_path / name / "lock.mdb").unlink(missing_ok=True)
    pick.train(job)
    assert {p.name for n in ("train", "val") for p in (tmp_path / n).iterdir()} == {"data.mdb"}


def test_a_last_test_is_made_where_the_interval_leaves_it_out(tmp_path: Path) -> None:
    job = job_in(tmp_path, select="best", max_iter=14)
    result = pick.train(job)
    assert [int(r["iteration"]) for r in rows(job) if r["val_accuracy"]] == [0, 8, 14]
    assert result.last_iteration == 14
    again = job_in(tmp_path, key="b", max_iter=14, select="last")
    assert pick.train(again).val_accuracy == float(rows(again)[-1]["val_accuracy"])


def test_a_resumed_training_equals_one_without_a_break_where_nothing_is_random(
    tmp_path: Path,
) -> None:
    through = job_in(tmp_path, "through", settled=True)
    pick.train(through)
    first = job_in(tmp_path, "broken", settled=True, max_iter=8)
    pick.train(first)
    rest = job_in(tmp_path, "broken", settled=True)
    assert pick.train(rest).last_iteration == 16
    assert through.final
    assert rest.final
    assert through.final.read_bytes() == rest.final.read_bytes()
    states = [read_state(j.snapshots / "snap_iter_16.solverstate") for j in (through, rest) if j.snapshots]  # fmt: skip
    for a, b in zip(states[0].history, states[1].history, strict=True):
        assert np.array_equal(a, b)
    columns = ("iteration", "loss", "lr", "val_accuracy", "val_loss")
    # The shown loss is a mean that Caffe begins anew.
    shown = [[[r[c] for c in columns if c != "loss"] for r in rows(j)] for j in (through, rest)]
    assert shown[0] == shown[1]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_stop_is_caffes_snapshot_and_the_same_job_goes_on(
    tmp_path: Path, number: signal.Signals
) -> None:
    job = job_in(tmp_path, select="best", base_lr=0.01, **LONG)
    with running(job) as process:
        caffe = process.caffe()
        process.wait_for("Iteration 1000, lr")
        # As a cluster does: to each process of the job.
        if number == signal.SIGTERM:
            os.kill(caffe, number)
        process.process.send_signal(number)
        said = process.said()
        assert process.process.returncode == 130, said
    assert is_gone(caffe)
    stopped = iterations(job)[0]
    assert f"Stopped at iteration {stopped} of 1000000; the state is saved." in said
    assert "Traceback" not in said
    end = (stopped // 1000 + 2) * 1000
    whole = job_in(tmp_path, select="best", base_lr=0.01, **{**LONG, "max_iter": end})
    result = pick.train(whole)
    assert result.last_iteration == end
    assert result.val_accuracy == 1.0, "as without a stop: the records are easy"
    assert whole.log
    assert f"Resuming from {job.snapshots}/snap_iter_{stopped}.solverstate" in whole.log.read_text()
    numbers = [int(r["iteration"]) for r in rows(whole) if r["loss"]]
    assert numbers == sorted(set(numbers)), "no row twice"


def test_a_second_ctrl_c_kills(tmp_path: Path) -> None:
    with running(job_in(tmp_path, **LONG)) as process:
        caffe = process.caffe()
        os.kill(caffe, signal.SIGSTOP)  # deaf to the first
        process.process.send_signal(signal.SIGINT)
        while not is_pending(caffe, signal.SIGINT):
            assert process.process.poll() is None
        time.sleep(stop.ECHO)
        process.process.send_signal(signal.SIGINT)
        said = process.said()
        assert process.process.returncode == 130
    assert is_gone(caffe)
    assert "Traceback" not in said


def test_a_killed_recaffe_takes_caffe_along_and_the_next_goes_on(tmp_path: Path) -> None:
    job = job_in(tmp_path, **LONG)
    with running(job) as process:
        caffe = process.caffe()
        process.wait_for("Iteration 2000, lr")
        process.process.kill()
        process.process.wait()
        assert is_gone(caffe)
    last = iterations(job)[0]
    assert last >= 1000
    whole = job_in(tmp_path, **{**LONG, "max_iter": last + 1500})
    assert pick.train(whole).last_iteration == last + 1500
    assert whole.log
    assert f"snap_iter_{last}.solverstate" in whole.log.read_text()


def test_a_killed_caffe_is_told_and_the_next_goes_on(tmp_path: Path) -> None:
    job = job_in(tmp_path, **LONG)
    with running(job) as process:
        caffe = process.caffe()
        process.wait_for("Iteration 1000, lr")
        os.kill(caffe, signal.SIGKILL)
        said = process.said()
        assert process.process.returncode == 1
    assert "Caffe stopped: it was killed (SIGKILL)" in said
    assert "Run the same command again" in said
    last = iterations(job)[0]
    whole = job_in(tmp_path, **{**LONG, "max_iter": last + 500})
    assert pick.train(whole).last_iteration == last + 500


def test_a_broken_snapshot_is_passed_over_and_a_moved_folder_goes_on(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    job = job_in(tmp_path, settled=True)
    pick.train(job)
    assert job.snapshots
    newest = job.snapshots / "snap_iter_16.solverstate"
    newest.write_bytes(newest.read_bytes()[:-1])
    shutil.move(job.snapshots, tmp_path / "moved")
    moved = job_in(tmp_path, "moved", settled=True)
    assert pick.train(moved).last_iteration == 16
    assert "snapshot 16 is passed over" in capfd.readouterr().out
    assert moved.log
    assert f"Resuming from {tmp_path}/moved/resume.solverstate" in moved.log.read_text()
    whole = job_in(tmp_path, "whole", settled=True)
    pick.train(whole)
    assert moved.final
    assert whole.final
    assert moved.final.read_bytes() == whole.final.read_bytes()


def test_only_the_newest_two_and_the_best_are_kept(tmp_path: Path) -> None:
    job = job_in(tmp_path, select="best", max_iter=48, test_interval=4, snapshot=4)
    pick.train(job)
    assert iterations(job) == [48, 44]
    assert job.snapshots
    snaps = {p.name.split(".")[0] for p in job.snapshots.glob("snap_iter_*")}
    assert snaps == {"snap_iter_48", "snap_iter_44"}
    assert len(list(job.snapshots.glob("best_iter_*"))) <= 3


def test_patience_ends_it_and_the_best_is_kept(tmp_path: Path) -> None:
    job = job_in(
        tmp_path, select="best", patience=3, max_iter=100_000, test_interval=50, snapshot=50,
        display=10, base_lr=0,
    )  # fmt: skip
    result = pick.train(job)
    assert result.reason == "no better validation in 3"
    assert result.iteration == 50 < result.last_iteration < 100_000
    again = pick.train(job)
    assert (again.reason, again.last_iteration) == (result.reason, result.last_iteration)


def test_a_loss_that_is_no_number_stops_caffe(tmp_path: Path) -> None:
    job = job_in(tmp_path, base_lr=1e20, **{k: v for k, v in LONG.items() if k != "display"})
    with running(job) as process:
        said = process.said()
        assert process.process.returncode == 1
        assert process.left() == []
    assert "nan at iteration" in said
    assert "base_lr is too high" in said


def test_weights_are_taken_for_the_named_layers_only(tmp_path: Path) -> None:
    base = job_in(tmp_path, settled=True, max_iter=1, base_lr=0)
    given = pick_weights(tmp_path)
    job = replace(base, weights=given, copy=("conv",))
    pick.train(job)
    assert job.final
    ours, theirs = weights.read(job.final), weights.read(given)
    assert np.array_equal(ours["conv"][0], theirs["conv"][0])
    assert ours["fc"][0].shape != theirs["fc"][0].shape


def pick_weights(folder: Path) -> Path:
    """A caffemodel whose `fc` has another shape than the net's."""
    rng = np.random.default_rng(0)
    blobs = [rng.normal(0, 0.1, s).astype(np.float32) for s in ((6, 3, 3, 3), (6,))]
    wrong = [np.ones((9, 9), np.float32), np.ones(9, np.float32)]
    path = folder / "start.caffemodel"
    layers = [("conv", "Convolution", blobs), ("fc", "InnerProduct", wrong)]
    weights.write(weights.to_net("s", layers), path)
    return path


DEPLOY = """
name: "small"
layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 1 dim: 3 dim: 10 dim: 10 } } }
layer { name: "conv" type: "Convolution" bottom: "data" top: "conv" convolution_param { num_output: 6 kernel_size: 3 } }
layer { name: "relu" type: "ReLU" bottom: "conv" top: "conv" }
layer { name: "pool" type: "Pooling" bottom: "conv" top: "pool" pooling_param { pool: MAX kernel_size: 2 stride: 2 } }
layer { name: "fc" type: "InnerProduct" bottom: "pool" top: "fc" inner_product_param { num_output: 3 } }
layer { name: "prob" type: "Softmax" bottom: "fc" top: "prob" }
"""


@pytest.mark.parametrize("blob", ["", "pool"])
def test_scores_and_features_are_those_of_the_torch_engine(tmp_path: Path, blob: str) -> None:
    job = job_in(tmp_path, base_lr=0.01)
    pick.train(job)
    deploy = tmp_path / "deploy.prototxt"
    deploy.write_text(DEPLOY)
    assert job.final
    task = PredictJob(
        deploy, job.final, tmp_path / "train", crop_size=10, scale=0.01, mean_values=(100.0,),
        batch_size=8, device="cpu", engine="caffe",
    )  # fmt: skip
    theirs, ours = pick.predict(task, "t", blob), pick.predict(replace(task, engine="torch"), "t", blob)  # fmt: skip
    assert theirs.scores.shape == ours.scores.shape == (46, 6 if blob else 3), (
        "46 is no multiple of 8"
    )
    assert np.abs(theirs.scores - ours.scores).max() < 1e-5
    assert np.array_equal(theirs.labels, ours.labels)
    assert theirs.keys == ours.keys


def test_weights_without_a_layer_are_told_before_caffe_leaves_it_at_its_start(
    tmp_path: Path,
) -> None:
    job = job_in(tmp_path, max_iter=1)
    pick.train(job)
    assert job.final
    held = weights.read(job.final)
    half, deploy = tmp_path / "half.caffemodel", tmp_path / "deploy.prototxt"
    weights.write(weights.to_net("s", [("conv", "Convolution", held["conv"])]), half)
    deploy.write_text(DEPLOY)
    task = PredictJob(deploy, half, tmp_path / "train", crop_size=10, device="cpu", engine="caffe")
    with pytest.raises(WeightsError, match="fc: new; net 3×96 3, weights have no such layer"):
        pick.predict(task)


def test_caffe_reads_the_net_that_was_rewritten(tmp_path: Path) -> None:
    job = job_in(tmp_path)
    pick.train(job)
    assert job.snapshots
    net = read_net(job.snapshots / "net.prototxt")
    data = [x for x in net.layer if x.type == "Data"]
    assert all(x.data_param.backend == pb.DataParameter.LMDB for x in data)
    assert not Path(data[0].data_param.source).exists(), "links to the records are gone with Caffe"
