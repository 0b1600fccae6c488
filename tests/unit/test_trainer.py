"""The trainer does what Caffe's Solver does with any solver.prototxt, and no device changes that."""

from __future__ import annotations

import math
import os
import re
import signal
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from recaffe.engines.base import TrainJob
from recaffe.engines.torch import nets
from recaffe.engines.torch.data import Feed
from recaffe.engines.torch.net import Net
from recaffe.engines.torch.train import train
from recaffe.errors import ConfigError, Interrupted, MachineError
from recaffe.net import weights
from recaffe.net.parse import read_net
from recaffe.proto import caffe_pb2 as pb
from tests.training import BATCH_NORM, IGNORE, write_training
from tests.unit.trained import CPU, final, lines, logged, losses, same


def test_a_caffe_users_solver_leaves_what_caffe_leaves_and_a_note(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    solver = write_training(tmp_path)
    train(TrainJob(solver, device="cpu"))
    names = sorted(p.name for p in tmp_path.glob("snap*"))
    assert names == sorted(
        f"snap_iter_{i}.{kind}"
        for i in (8, 16)
        for kind in ("caffemodel", "solverstate", "solverstate.json")
    )
    said = lines(capsys.readouterr().err)
    assert f"Creating training net from net file: {tmp_path}/net.prototxt" in said
    assert [line for line in said if "Testing net" in line] == [
        f"Iteration {i}, Testing net (#0)" for i in (0, 8, 16)
    ]
    shown = [line for line in said if line.startswith("    Train net output #0: aux_loss = ")]
    for line in shown:
        value, weighed = re.findall(r"= (\S+)", line)[0], re.findall(r"= (\S+) loss\)", line)[0]
        assert "(* 0.3 = " in line
        assert float(weighed) == pytest.approx(0.3 * float(value), rel=1e-4)
    assert len(shown) == 4
    assert said[-1] == "Optimization Done."


def test_a_run_goes_on_from_a_solverstate_as_if_never_stopped(tmp_path: Path) -> None:
    write_training(tmp_path)
    whole = final(tmp_path).read_bytes()
    (tmp_path / "snap_iter_16.caffemodel").unlink()
    resumed = final(tmp_path, resume=tmp_path / "snap_iter_8.solverstate")
    assert resumed.read_bytes() == whole


def test_several_test_nets_each_with_its_state(tmp_path: Path) -> None:
    solver = write_training(
        tmp_path, net="", test_iter=3, train_net=f'"{tmp_path}/net.prototxt"',
        test_net=f'"{tmp_path}/net.prototxt" test_net: "{tmp_path}/net.prototxt" test_iter: 3 '
        'test_state { } test_state { stage: "deep" }',
    )  # fmt: skip
    net = tmp_path / "net.prototxt"
    net.write_text(
        net.read_text() + 'layer { name: "top2" type: "Accuracy" bottom: "fc" bottom: "label" '
        'top: "top2" accuracy_param { top_k: 2 } include { phase: TEST stage: "deep" } }'
    )
    said, result = logged(TrainJob(solver))
    tested = said[said.index("Iteration 16, Testing net (#0)") :]
    second = tested[tested.index("Iteration 16, Testing net (#1)") :]
    assert not any("top2" in line for line in tested[: -len(second)])
    assert any("Test net output #3: top2 = " in line for line in second)
    assert result.val_accuracy > 0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"train_net": '"x"'}, "names 2 nets to train .net, train_net."),
        ({"net": ""}, "names 0 nets to train"),
        ({"test_interval": 0}, "test_interval is 0"),
        ({"test_state": "{ } test_state { }"}, "2 test_state for 1 test nets"),
        ({"test_iter": "", "test_net": '"x"'}, "1 test nets and 0 test_iter"),
        ({"snapshot_prefix": '"/proc/nowhere/snap"'}, "can't be written to /proc/nowhere"),
    ],
)
def test_a_solver_that_caffe_refuses_is_refused(
    tmp_path: Path, changes: dict[str, str | float], message: str
) -> None:
    solver = write_training(tmp_path, **changes)
    with pytest.raises((ConfigError, MachineError), match=message):
        train(TrainJob(solver, device="cpu"))


def test_a_prefix_that_is_missing_or_a_folder_is_named_after_the_solver(tmp_path: Path) -> None:
    assert nets.read_solver(write_training(tmp_path, snapshot_prefix="")).snapshot_prefix == str(
        tmp_path / "solver"
    )
    solver = write_training(tmp_path, snapshot_prefix=f'"{tmp_path}"')
    assert nets.read_solver(solver).snapshot_prefix == str(tmp_path / "solver")


@pytest.mark.parametrize("loss", ["", IGNORE])
def test_a_test_counts_each_record_once(tmp_path: Path, loss: str) -> None:
    accuracy = (
        'layer { name: "accuracy" type: "Accuracy" bottom: "fc" bottom: "label" top: "accuracy" '
        'top: "classes" include { phase: TEST } accuracy_param { %s } }'
        % ("ignore_label: 2" if loss else "")
    )
    solver = write_training(tmp_path, loss=loss, accuracy=accuracy, max_iter=4, base_lr=0.02)
    said, result = logged(TrainJob(solver))
    net = read_net(tmp_path / "net.prototxt")
    whole = next(x for x in net.layer if x.type == "Data" and x.include[0].phase == pb.TEST)
    whole.data_param.batch_size = 13
    feed = Feed(net, pb.TEST, 0)
    tested = Net(net, pb.TEST, feed.shapes)
    tested.load(weights.read(tmp_path / "snap_iter_4.caffemodel"))
    with torch.no_grad():
        blobs = tested(next(feed.once()).to(CPU))
    shown = dict(re.findall(r"Test net output #\d+: (\w+) = (\S+)", "\n".join(said)))
    assert 0 < result.val_accuracy < 1
    assert result.val_accuracy == pytest.approx(float(blobs["accuracy"]))
    assert float(shown["loss"]) == pytest.approx(float(blobs["loss"]), rel=1e-5)
    by_class = re.findall(r"Test net output #\d+: classes = (\S+)", "\n".join(said))[-3:]
    assert [float(x) for x in by_class] == pytest.approx(blobs["classes"].tolist(), rel=1e-5)


def test_the_shown_loss_is_the_mean_of_the_last_few(tmp_path: Path) -> None:
    each = losses(logged(TrainJob(write_training(tmp_path, average_loss=1, display=1)))[0])
    smooth = losses(logged(TrainJob(write_training(tmp_path, average_loss=3, display=1)))[0])
    assert len(each) == len(smooth) == 16
    for i, value in enumerate(smooth):
        window = each[max(0, i - 2) : i + 1]
        assert value == pytest.approx(sum(window) / len(window), rel=1e-4)


@pytest.mark.parametrize("micro_batch", [0, 2])
def test_the_loss_after_the_last_update_is_shown_and_leaves_nothing_else(
    tmp_path: Path, micro_batch: int
) -> None:
    left, tested = {}, {}
    for display in (4, 0, 5):
        folder = tmp_path / str(display)
        write_training(folder, display=display, middle=BATCH_NORM)
        final(folder, csv=folder / "csv", micro_batch=micro_batch, final=folder / "final")
        said = lines((folder / "log").read_text())
        assert sum(x.startswith("Iteration 16, loss = ") for x in said) == (display == 4)
        left[display] = [(folder / n).read_bytes() for n in ("final", "snap_iter_16.caffemodel")]
        tested[display] = [x for x in said if "Test net output" in x]
        last_row = (folder / "csv").read_text().splitlines()[-1].split(",")
        assert (last_row[0], last_row[3]) == ("16", ""), "the last is the test's"
    assert left[4] == left[0] == left[5]
    assert tested[4] == tested[0] == tested[5]


def test_iter_size_adds_up_to_a_larger_batch(tmp_path: Path) -> None:
    one = final(write_training(tmp_path / "a", batch=8, drop=0, iter_size=1).parent)
    # Windows and mirrors are drawn for each batch, so the halves see others: no crop, no mirror.
    two = final(write_training(tmp_path / "b", batch=4, drop=0, iter_size=2).parent)
    assert not same(one, two, 1e-4), "the same draws would be a coincidence"
    for name, batch, size in (("c", 8, 1), ("d", 4, 2)):
        folder = write_training(tmp_path / name, batch=batch, drop=0, iter_size=size).parent
        net = (folder / "net.prototxt").read_text()
        (folder / "net.prototxt").write_text(
            net.replace("crop_size: 10", "").replace("mirror: true", "")
        )
    assert same(final(tmp_path / "c"), final(tmp_path / "d"), 1e-5)


def test_debug_info_says_mean_absolute_values_of_blobs_and_gradients(tmp_path: Path) -> None:
    solver = write_training(tmp_path, debug_info="true", max_iter=1, drop=0.0, test_iter="")
    said, _ = logged(TrainJob(solver))
    p = nets.read_solver(solver)
    feed = Feed(read_net(p.net), pb.TRAIN, 3)
    net = Net(read_net(p.net), pb.TRAIN, feed.shapes, seed=3)
    inputs = next(feed.batches()).to(CPU)
    blobs = net(inputs)
    net.loss(blobs).backward()
    expected = {
        "    [Forward] Layer data, top blob data data:": inputs["data"],
        "    [Forward] Layer relu, top blob conv data:": blobs["conv"],
        "    [Forward] Layer fc, param blob 0 data:": net.blobs["fc"][0],
        "    [Forward] Layer loss, top blob loss data:": blobs["loss"],
        "    [Backward] Layer fc, param blob 0 diff:": net.blobs["fc"][0].grad,
        "    [Backward] Layer conv, param blob 1 diff:": net.blobs["conv"][1].grad,
    }
    for start, blob in expected.items():
        (line,) = [x for x in said if x.startswith(start)]
        assert blob is not None
        assert float(line.split()[-1]) == pytest.approx(float(blob.detach().abs().mean()), rel=1e-4)
    backward = [x.split()[2].rstrip(",") for x in said if x.startswith("    [Backward] Layer")]
    order = ["loss", "fc", "aux_loss", "aux", "drop", "pool", "relu", "conv"]
    assert list(dict.fromkeys(backward)) == [x for x in order if x in backward]
    assert any(
        x.startswith("    [Backward] All net params (data, diff): L1 norm = (") for x in said
    )


def test_a_seed_of_minus_one_is_drawn_and_named(tmp_path: Path) -> None:
    solver = write_training(tmp_path, random_seed=-1, max_iter=4)
    drawn = []
    for _ in range(2):
        said, _ = logged(TrainJob(solver))
        drawn.append(re.findall(r"this run's seed is (\d+)", "\n".join(said))[0])
    assert drawn[0] != drawn[1]
    write_training(tmp_path, random_seed=int(drawn[1]), max_iter=4)
    again = tmp_path / "again.caffemodel"
    train(TrainJob(solver, device="cpu", final=again, log=tmp_path / "log"))
    assert same(again, tmp_path / "snap_iter_4.caffemodel")


def test_a_drawn_seed_outlives_a_stop(tmp_path: Path) -> None:
    solver = write_training(tmp_path, random_seed=-1, max_iter=8)
    job = TrainJob(solver, tmp_path / "own", final=tmp_path / "final", log=tmp_path / "log",
                   csv=tmp_path / "csv", device="cpu")  # fmt: skip
    train(job)
    seed = re.findall(r"seed is (\d+)", job.log.read_text())  # type: ignore[union-attr]
    write_training(tmp_path, random_seed=-1, max_iter=16)
    train(job)
    assert re.findall(r"seed is (\d+)", job.log.read_text()) == seed * 2  # type: ignore[union-attr]


def test_nets_without_accuracy_or_test_still_train(tmp_path: Path) -> None:
    job = TrainJob(write_training(tmp_path, accuracy=""), tmp_path / "own",
                   final=tmp_path / "final", log=tmp_path / "log", select="best", device="cpu")  # fmt: skip
    result = train(job)
    assert math.isnan(result.val_accuracy)
    assert job.final is not None
    assert job.final.is_file()
    untested = replace(job, solver=write_training(tmp_path, test_iter=""), snapshots=tmp_path / "b")
    with pytest.raises(ConfigError, match="select is best, but nothing says.*tests no net"):
        train(untested)
    assert train(replace(untested, select="last")).iteration == 16


def test_test_initialization_false_skips_the_first_test(tmp_path: Path) -> None:
    said, _ = logged(TrainJob(write_training(tmp_path, test_initialization="false")))
    assert next(x for x in said if "Testing" in x) == "Iteration 8, Testing net (#0)"


def once_it_runs(job: TrainJob, number: signal.Signals) -> None:
    """Send ourselves a signal when the job's log shows its first iteration."""

    def wait() -> None:
        assert job.log is not None
        while not job.log.is_file() or "lr = " not in job.log.read_text():
            time.sleep(0.005)
        os.kill(os.getpid(), number)

    threading.Thread(target=wait, daemon=True).start()


def test_sighup_makes_a_snapshot_and_goes_on(tmp_path: Path) -> None:
    solver = write_training(tmp_path, max_iter=200, snapshot=0, test_interval=200)
    job = TrainJob(solver, device="cpu", log=tmp_path / "log")
    once_it_runs(job, signal.SIGHUP)
    train(job)
    states = sorted(tmp_path.glob("snap_iter_*.solverstate"))
    assert len(states) == 2, "one for the signal, one at the end"


def test_sigterm_stops_after_a_snapshot_that_the_message_names(tmp_path: Path) -> None:
    solver = write_training(tmp_path, max_iter=100000, snapshot=0, test_interval=100000)
    job = TrainJob(solver, device="cpu", log=tmp_path / "log")
    once_it_runs(job, signal.SIGTERM)
    with pytest.raises(Interrupted) as stopped:
        train(job)
    (state,) = tmp_path.glob("snap_iter_*.solverstate")
    assert f"Go on from {state}" in str(stopped.value)
