"""The `recaffe` command as one who comes from Caffe types it: flags, lines, files, mistakes."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from recaffe.cli import main
from recaffe.config import MODELS
from recaffe.engines.base import TrainJob
from recaffe.engines.torch import prefix
from recaffe.net import weights
from tests.unit.commands import GLOG, recaffe, texts

LENET = str(MODELS / "lenet" / "train_val.prototxt")
SQUEEZENET = str(MODELS / "squeezenet_v1.1" / "train_val.prototxt")
INPUT = 'layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 2 dim: 3 dim: 9 dim: 9 } } }\n'


def solver(golden: Path, **changes: object) -> str:
    """A copy of the golden solver with other values; None takes a line out."""
    lines = (golden / "solver.prototxt").read_text(encoding="utf-8").splitlines()
    lines = [x for x in lines if x.split(":")[0] not in changes]
    lines += [f"{k}: {v}" for k, v in changes.items() if v is not None]
    (golden / "other.prototxt").write_text("\n".join(lines), encoding="utf-8")
    return "other.prototxt"


# -- the frame


def test_help_names_the_commands_and_imports_nothing_heavy() -> None:
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "recaffe", "--help"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    for command in ("train", "test", "time", "summary", "draw", "upgrade", "convert"):
        assert f"\n    {command} " in done.stdout
    imported = {x.rsplit("|", 1)[-1].strip() for x in done.stderr.splitlines()}
    assert "recaffe.cli" in imported
    assert not imported & {"torch", "numpy", "google.protobuf", "cv2", "lmdb", "onnx"}


@pytest.mark.parametrize("flag", ["--solver=none.x", "-solver=none.x", "--solver none.x", "-solver none.x"])  # fmt: skip
def test_flags_are_taken_in_each_form_that_gflags_takes(flag: str, capsys: pytest.CaptureFixture[str]) -> None:  # fmt: skip
    assert main(["train", *flag.split()]) == 1
    assert capsys.readouterr().err == "recaffe: none.x: there is no such file.\n"


# -- train and test


def test_training_writes_what_caffe_train_wrote_and_says_it_in_caffes_lines(
    golden: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert recaffe("train -threads 1 -solver solver.prototxt -weights start.caffemodel") == 0
    ours, theirs = weights.read("trained_iter_12.caffemodel"), weights.read("theirs.caffemodel")
    start = weights.read("start.caffemodel")
    for name, blobs in theirs.items():
        for blob, other, first in zip(ours[name], blobs, start[name], strict=True):
            assert np.abs(blob - other).max() < 1e-3 * np.abs(other - first).max(), name
    lines = texts(capsys.readouterr().err)
    # The losses are those that `caffe train` printed.
    assert any(re.fullmatch(r"Iteration 0 \(\S+ iter/s, \S+s/1 iters\), loss = 1.12501", x) for x in lines)  # fmt: skip
    assert "    Train net output #0: loss = 1.10587 (* 1 = 1.10587 loss)" in lines
    assert "Iteration 5, lr = 0.0015" in lines
    assert "Iteration 0, Testing net (#0)" in lines
    assert "    Test net output #0: accuracy = 0.285714" in lines
    assert "    Test net output #1: loss = 1.12501 (* 1 = 1.12501 loss)" in lines
    assert "Snapshotting to binary proto file trained_iter_12.caffemodel" in lines
    assert "Snapshotting solver state to binary proto file trained_iter_12.solverstate" in lines
    assert lines[-1] == "Optimization Done."


def test_the_log_says_what_caffe_says_of_steps_hdf5_and_debug_info(
    golden: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = solver(
        golden, lr_policy='"multistep"', stepvalue=1, max_iter=2, snapshot_format="HDF5",
        debug_info="true", test_interval=1, stepsize=None,
    )  # fmt: skip
    assert recaffe(f"train -threads 1 -solver {file} -weights start.caffemodel") == 0
    lines = texts(capsys.readouterr().err)
    assert "Snapshotting to HDF5 file trained_iter_2.caffemodel.h5" in lines
    assert "Snapshotting solver state to HDF5 file trained_iter_2.solverstate.h5" in lines
    assert [x for x in lines if "MultiStep" in x] == ["MultiStep Status: Iteration 1, step = 1"]
    # Each batch of a test says the blobs, between the test's first line and its outputs.
    test = lines[lines.index("Iteration 0, Testing net (#0)") :]
    test = test[1 : next(i for i, x in enumerate(test) if "Test net output" in x)]
    assert test and all(x.startswith("    [Forward] Layer ") for x in test)
    assert sum("Layer fc, param blob 0 data" in x for x in test) == 1


def test_a_snapshot_goes_on_to_the_same_weights(golden: Path) -> None:
    assert main(["train", "--threads=1", "--solver", solver(golden, snapshot=6), "--weights", "start.caffemodel"]) == 0  # fmt: skip
    whole = (golden / "trained_iter_12.caffemodel").read_bytes()
    (golden / "trained_iter_12.caffemodel").unlink()
    assert (
        recaffe("train --threads=1 --solver other.prototxt --snapshot trained_iter_6.solverstate")
        == 0
    )
    assert (golden / "trained_iter_12.caffemodel").read_bytes() == whole


def test_a_snapshot_goes_on_alike_where_the_solver_leaves_the_seed_to_chance(
    golden: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    net = (golden / "net.prototxt").read_text(encoding="utf-8")
    drop = 'layer { name: "drop" type: "Dropout" bottom: "both" top: "both" }\nlayer { name: "fc"'
    assert net.count('layer { name: "fc"') + net.count('layer {\n  name: "fc"') == 1
    net = net.replace('layer {\n  name: "fc"', 'layer { name: "fc"')
    (golden / "net.prototxt").write_text(net.replace('layer { name: "fc"', drop))
    file = solver(golden, snapshot=6, random_seed=None, average_loss=5)
    assert recaffe(f"train --threads=1 --solver {file} --weights start.caffemodel") == 0
    first = texts(capsys.readouterr().err)
    whole = (golden / "trained_iter_12.caffemodel").read_bytes()
    resume = f"train --threads=1 --solver {file} --snapshot trained_iter_6.solverstate"
    assert recaffe(resume) == 0
    assert (golden / "trained_iter_12.caffemodel").read_bytes() == whole
    shown = [re.findall(r"^Iteration \d+.* (loss = \S+)", "\n".join(x), re.M) for x in (first, texts(capsys.readouterr().err))]  # fmt: skip
    # Of six updates, and after the last one.
    assert len(shown[1]) == 7 and shown[0][6:] == shown[1]
    # A state that something else has written over is not the one that the notes are about.
    state = golden / "trained_iter_6.solverstate"
    state.write_bytes((golden / "trained_iter_12.solverstate").read_bytes())
    assert prefix.notes(state) == {}


def test_layers_that_net_or_weights_have_alone_are_named_before_training(
    golden: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    blobs = weights.read("start.caffemodel")
    blobs["fcc"] = blobs.pop("fc")  # a typo, which Caffe would answer with a random layer
    layers = [(name, "InnerProduct", b) for name, b in blobs.items()]
    weights.write(weights.to_net("golden", layers), "typo.caffemodel")
    assert recaffe(f"train --solver {solver(golden, max_iter=1)} --weights typo.caffemodel") == 0
    said = texts(capsys.readouterr().err)
    assert "Ignoring source layer fcc" in said
    assert [x for x in said if x.startswith("Layer ")] == [
        "Layer fc is in none of the weights: it starts as its fillers say."
    ]


def test_flags_say_how_the_engine_computes(golden: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    jobs: list[TrainJob] = []
    monkeypatch.setattr("recaffe.engines.torch.launch.run", jobs.append)
    flags = "--precision bf16 --channels_last true --compile --deterministic"
    assert recaffe(f"train --solver solver.prototxt --micro_batch auto {flags}") == 0
    assert recaffe("train -solver solver.prototxt -micro_batch 4") == 0
    set_, plain = jobs
    assert (set_.precision, set_.channels_last, set_.micro_batch) == ("bf16", True, "auto")
    assert set_.compile and set_.deterministic
    assert (plain.precision, plain.channels_last, plain.micro_batch) == ("fp32", "auto", 4)
    assert not plain.compile and not plain.deterministic


@pytest.mark.parametrize(
    ("mode", "flag", "device", "visible"),
    [("CPU", "", "cpu", "0,1,2"), ("GPU", "", "cuda", "0,1,2"), ("CPU", "-gpu 2,1", "cuda", "2,1")],
)
def test_one_of_several_processes_takes_the_devices_that_solver_and_flags_name(
    mode: str, flag: str, device: str, visible: str, golden: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs: list[TrainJob] = []
    monkeypatch.setattr("recaffe.engines.torch.launch.run", jobs.append)
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 3)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1,2")
    monkeypatch.setenv("RANK", "1")
    assert recaffe(f"train -solver {solver(golden, solver_mode=mode)} {flag}") == 0
    assert (jobs[0].device, jobs[0].devices) == (device, 1)
    assert os.environ["CUDA_VISIBLE_DEVICES"] == visible


def test_ctrl_c_saves_the_state_and_ends_without_a_traceback(golden: Path) -> None:
    file = solver(golden, max_iter=100000, snapshot=None)
    command = [sys.executable, "-m", "recaffe", "train", "--solver", file]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as run:
        assert run.stderr is not None
        for line in run.stderr:
            if "Iteration 3" in line:
                break
        run.send_signal(signal.SIGINT)
        rest = run.stderr.read()
        assert run.wait() == 130
    assert "Traceback" not in rest and "recaffe: Stopped at iteration" in rest
    (state,) = golden.glob("trained_iter_*.solverstate")
    assert state.with_suffix(".caffemodel").is_file()


def test_testing_says_what_caffe_test_says(golden: Path, capsys: pytest.CaptureFixture[str]) -> None:  # fmt: skip
    assert recaffe("test -model net.prototxt -weights theirs.caffemodel -iterations 2") == 0
    # As `caffe test` printed for these files.
    assert texts(capsys.readouterr().err) == [
        "Use CPU.",
        "Running for 2 iterations.",
        "Batch 0, accuracy = 0.428571",
        "Batch 0, loss = 1.04739",
        "Batch 1, accuracy = 0.428571",
        "Batch 1, loss = 1.04739",
        "Loss: 1.04739",
        "accuracy = 0.428571",
        "loss = 1.04739 (* 1 = 1.04739 loss)",
    ]


def test_all_counts_each_record_once_where_batches_do_not_divide_the_set(
    golden: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    net = (golden / "net.prototxt").read_text(encoding="utf-8")
    (golden / "net.prototxt").write_text(net.replace("batch_size: 7", "batch_size: 4"))
    assert recaffe("test --model net.prototxt --weights theirs.caffemodel --all") == 0
    exact = texts(capsys.readouterr().err)
    assert "accuracy = 0.428571" in exact and "loss = 1.04739 (* 1 = 1.04739 loss)" in exact
    assert recaffe("test --model net.prototxt --weights theirs.caffemodel --iterations 2") == 0
    # Two batches of four count one of the seven records twice.
    assert "accuracy = 0.428571" not in texts(capsys.readouterr().err)


# -- mistakes

CASES = {
    "no command": ([], 2, "COMMAND"),
    "unknown command": (["trian"], 2, "trian"),
    "unknown flag": (["test", "--modell", "net.prototxt"], 2, "no --modell; --model is meant?"),
    "a flag that is missing": (["test", "--model", "net.prototxt"], 2, "--weights"),
    "a number that is none": (["time", "--model", "net.prototxt", "--iterations", "x"], 2, "'x'"),
    "no iterations": (["time", "--model", "net.prototxt", "--iterations", "0"], 1, "at least 1"),
    "weights and snapshot": (["train", "--solver", "s", "--weights", "w", "--snapshot", "x"], 2, "not allowed with"),
    "a net that is missing": (["summary", "none.prototxt"], 1, "none.prototxt: there is no such file"),
    "a net that is weights": (["summary", "theirs.caffemodel"], 1, "theirs.caffemodel"),
    "weights that are a net": (["test", "--model", "net.prototxt", "--weights", "net.prototxt"], 1, "net.prototxt"),
    "an error in a net": (["summary", "bad.prototxt"], 1, "bad.prototxt, line 2, column 25"),
    "a brace too few": (["summary", "open.prototxt"], 1, "open.prototxt, line 2, column 1"),
    "an unknown key in a solver": (["train", "--solver", "bad_solver.prototxt"], 1, "bad_solver.prototxt, line 2"),
    "pictures that are too small": (["summary", "net.prototxt", "--input", "3,2,2"], 1, "too small"),
    "weights of another net": (["test", "--model", "wide.prototxt", "--weights", "theirs.caffemodel"], 1, "conv1"),
    "weights with no layer of the net": (["train", "--solver", "solver.prototxt", "--weights", "strange.caffemodel"], 1, "has a namesake"),
    "a deploy net to test": (["test", "--model", "deploy.prototxt", "--weights", "theirs.caffemodel"], 1, "train_val"),
    "a train_val to convert": (["convert", "net.prototxt", "theirs.caffemodel", "x.py"], 1, "deploy"),
    "no such GPU": (["time", "--model", "net.prototxt", "--gpu", "97"], 1, "GPU"),
    "a GPU that is no number": (["time", "--model", "net.prototxt", "--gpu", "one"], 1, "--gpu one"),
    "a GPU twice": (["time", "--model", "net.prototxt", "--gpu", "0,0"], 1, "--gpu 0,0"),
    "a micro batch of words": (["train", "--solver", "s", "--micro_batch", "some"], 2, "nor auto"),
    "an odd size": (["summary", "net.prototxt", "--input", "3,20"], 1, "--input 3,20"),
    "another format to draw": (["draw", "net.prototxt", "net.png"], 1, ".svg"),
    "a folder that can't be made": (["draw", "net.prototxt", "net.prototxt/x.svg"], 1, "net.prototxt/x.svg"),
    "another format to convert to": (["convert", "deploy.prototxt", "theirs.caffemodel", "x.pb"], 1, ".onnx or .py"),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_a_mistake_is_one_message_that_names_it(
    case: str, golden: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    net = (golden / "net.prototxt").read_text(encoding="utf-8")
    (golden / "wide.prototxt").write_text(net.replace("num_output: 6", "num_output: 16"))
    (golden / "deploy.prototxt").write_text(INPUT)
    (golden / "bad.prototxt").write_text('name: "x"\nlayer { name: "a" type: 7 }\n')
    (golden / "open.prototxt").write_text('layer { name: "a"\n')
    (golden / "bad_solver.prototxt").write_text('net: "net.prototxt"\nbase_rl: 1\n')
    weights.write(
        weights.to_net("x", [("x", "Bias", [np.ones(1, np.float32)])]), "strange.caffemodel"
    )
    arguments, status, said = CASES[case]
    assert main(arguments) == status
    out, err = capsys.readouterr()
    assert out == ""
    message = [x for x in err.splitlines() if not re.match(GLOG, x)]
    assert message[0].startswith("recaffe: ") and said in "\n".join(message), err
    assert "Traceback" not in err
    assert not re.search(r"`(unmatched|weights|results)`|lmdb\.", err), "there is no config here"
    assert sum(x.startswith("recaffe: ") for x in message) == 1
