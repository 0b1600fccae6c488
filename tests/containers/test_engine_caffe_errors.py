"""What goes wrong in real Caffe is told as what it is, with what to do and Caffe's own words."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from recaffe.engines import pick
from recaffe.engines.base import PredictJob
from recaffe.engines.caffe import find, messages, run
from recaffe.engines.caffe.child import Child
from recaffe.errors import TrainError
from tests.containers.real_caffe import job_in, needs_caffe, running
from tests.containers.test_engine_caffe import DEPLOY, pick_weights

pytestmark = needs_caffe


def edited(file: str, old: str, new: str) -> Callable[[Path], None]:
    """A change of the training's net.prototxt or solver.prototxt."""

    def change(folder: Path) -> None:
        text = (folder / file).read_text(encoding="utf-8")
        assert old in text, text
        (folder / file).write_text(text.replace(old, new), encoding="utf-8")

    return change


def junk(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).write_bytes(b"junk") and None


def no_lmdb(folder: Path) -> None:
    for path in (folder / "train").iterdir():
        path.write_bytes(b"junk")


NET, SOLVER = "net.prototxt", "solver.prototxt"


@pytest.mark.parametrize(
    ("change", "flags", "words"),
    [
        (edited(NET, 'top: "fc"', 'top: "fc" bottom: "pol"'), [], ["blob 'pol'", "layer 'fc'"]),
        (edited(NET, '"ReLU"', '"Relu"'), [], ["type 'Relu'", "spelling"]),
        (edited(NET, "kernel_size: 3", "kernel_sze: 3"), [], ["net.prototxt can't be parsed (line ", "kernel_sze"]),
        (edited(NET, "crop_size: 10", "crop_size: 30"), [], ["crop of 30 pixels", "records of 12"]),
        (edited(NET, "mean_value: 100", 'mean_file: "nosuch.binaryproto"'), [], ["nosuch.binaryproto is missing"]),
        (edited(NET, 'train"', 'nowhere"'), [], ["LMDB can't be opened: No such file", "`source`"]),
        (no_lmdb, [], ["LMDB can't be read: MDB_INVALID"]),
        (edited(NET, "batch_size: 8", "batch_size: 40000000"), [], ["2,147,483,647", "smaller batch_size"]),
        (edited(SOLVER, "base_lr", "bse_lr"), [], ["solver.prototxt can't be parsed (line", "bse_lr"]),
        (edited(SOLVER, "/net.prototxt", "/nosuch.prototxt"), [], ["nosuch.prototxt is missing"]),
        (edited(SOLVER, "/snap", "/nosuch/snap"), [], ["snapshots can't be written", "/nosuch/snap"]),
        (junk("w.caffemodel"), ["-weights={}/w.caffemodel"], ["w.caffemodel is no caffemodel"]),
        (edited(NET, "", ""), ["-weights={}/w.caffemodel"], ["w.caffemodel is missing"]),
        (junk("w.solverstate"), ["-snapshot={}/w.solverstate"], ["another net or solver type"]),
    ],
)  # fmt: skip
def test_caffes_own_failed_checks(
    tmp_path: Path, change: Callable[[Path], None], flags: list[str], words: list[str]
) -> None:
    job = job_in(tmp_path)
    change(tmp_path)
    command = ["train", f"-solver={job.solver}", *(f.format(tmp_path) for f in flags)]
    refused(command, *words)


def refused(options: list[str], *words: str) -> None:
    """`caffe` with these options fails, and its words become a message with those."""
    caffe = find.find()
    with Child([str(caffe.program), *options], run.environment(caffe, 1)) as child:
        said = [line for line in child.lines(60) if line is not None]
        code = child.process.returncode
    assert code, said
    text = str(messages.explain(said[-200:], code, "the log"))
    for word in words:
        assert word in text, text
    fatal = next(line for line in said if re.match(r"F\d+ ", line)).split("] ", 1)[1]
    assert f"Caffe said: {fatal.strip()[:100]}" in text


@pytest.mark.skipif(
    Path("/dev/nvidiactl").exists(), reason="there is a GPU, and perhaps a Caffe for it"
)
def test_a_gpu_for_a_caffe_without() -> None:
    caffe = find.find()
    words = ["isn't there", "nvidia-smi"] if caffe.cuda else ["built for CPUs only", "device: cpu"]
    refused(["device_query", "-gpu=0"], *words)


def test_weights_of_another_shape(tmp_path: Path) -> None:
    base = job_in(tmp_path)
    with pytest.raises(TrainError, match=r"layer 'fc' has another shape") as caught:
        pick.train(replace(base, weights=pick_weights(tmp_path)))
    said = str(caught.value)
    assert "Source param shape is 9 9 (81)" in said
    assert said.endswith(f"The whole log: {base.log}")


def test_memory_that_runs_out(tmp_path: Path) -> None:
    # Four batches of 600 MB are read ahead; OpenBLAS alone takes half a gigabyte of addresses.
    job = job_in(tmp_path)
    edited(NET, "batch_size: 8", "batch_size: 500000")(tmp_path)
    with running(job, limit="2000000") as process:
        said = process.said()
        assert process.process.returncode == 1
    assert "memory ran out" in said
    assert "smaller batch_size" in said
    assert "Traceback" not in said


def test_a_python_without_pycaffe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    job = job_in(tmp_path)
    pick.train(job)
    (tmp_path / "deploy.prototxt").write_text(DEPLOY)
    assert job.final
    python = tmp_path / "python"
    python.write_text('#!/bin/sh\nexec /usr/bin/python3 -S "$@"\n')
    python.chmod(0o755)
    monkeypatch.setenv("CAFFE_PYTHON", str(python))
    task = PredictJob(
        tmp_path / "deploy.prototxt", job.final, tmp_path / "train", crop_size=10, device="cpu",
        engine="caffe",
    )  # fmt: skip
    with pytest.raises(TrainError, match=r"can't import pycaffe.*CAFFE_PYTHON"):
        pick.predict(task)
