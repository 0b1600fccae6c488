"""The bench for GPUs, as far as it goes without one. How fast is no test's business."""

from __future__ import annotations

import csv
import math
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from bench.gpu import __main__ as bench
from bench.gpu import card, feed, loop, ours, programs, rows
from bench.gpu.files import Files, Length, published
from bench.gpu.nets import NETS
from bench.gpu.programs import Cost, Programs, Setting
from bench.measure import FIELDS, store
from recaffe.engines import preflight
from recaffe.engines.caffe.find import Caffe
from recaffe.errors import MachineError
from recaffe.net import shapes, summary

SMALL = "squeezenet_v1.1"


@pytest.mark.parametrize("name", NETS)
def test_a_net_by_hand_does_the_work_of_its_prototxt(name: str) -> None:
    side = NETS[name].side
    inputs = {"data": (2, 3, side, side), "label": (2,)}
    walked = shapes.walk(list(published(name).layer), inputs)
    with torch.device("meta"):
        net = NETS[name].build()
        x = torch.empty(inputs["data"])
    done = 0

    def count(layer: nn.Module, given: Any, out: torch.Tensor) -> None:
        nonlocal done
        assert isinstance(layer.weight, torch.Tensor)
        done += out.numel() * layer.weight[0].numel()

    for layer in net.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            layer.register_forward_hook(count)
    assert net(x).shape == (2, 1000)
    learned = ("Convolution", "InnerProduct")
    assert done == sum(summary.macs(s) for s in walked if s.layer.type in learned)
    # BatchNorm's mean, variance and count of both.
    held = sum(t.numel() for t in (*net.parameters(), *net.buffers()))
    assert held == summary.parameters(walked)


def test_without_a_card_it_is_one_message(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(preflight, "why_torch_sees_none", lambda: "There is no driver.")
    monkeypatch.setattr(sys, "argv", ["bench.gpu"])
    with pytest.raises(SystemExit) as end:
        bench.main()
    assert str(end.value).startswith("bench-gpu: device is cuda, but PyTorch sees no GPU here.")
    assert "There is no driver." in str(end.value) and "--device cpu --quick" in str(end.value)


def test_a_caffe_that_is_named_must_be_built_for_gpus(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "bin").mkdir()
    program = tmp_path / "bin" / "caffe"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    monkeypatch.setenv("CAFFE_HOME", "")  # put back at the end
    monkeypatch.setenv("CAFFE_CUDA_HOME", str(tmp_path))
    with pytest.raises(MachineError, match=f"{tmp_path} isn't built for GPUs"):
        bench.caffe_for("cuda")
    program.write_text("libcublas.so")
    found = bench.caffe_for("cuda")
    assert found is not None and found.program == program
    monkeypatch.setenv("CAFFE_CUDA_HOME", str(tmp_path / "nowhere"))
    with pytest.raises(MachineError, match="nowhere"):
        bench.caffe_for("cuda")


def test_a_try_stores_nothing_unless_asked() -> None:
    assert bench.arguments(["--quick"]).out is None
    assert bench.arguments(["--device", "cpu"]).out is None
    assert bench.arguments([]).out == bench.OUT
    assert bench.arguments(["--quick", "--out", "x.csv"]).out == Path("x.csv")


def test_all_settings_are_measured_and_compiled_ones_last() -> None:
    every = bench.settings(bench.arguments([]))
    assert len(set(every)) == len(every) == 12
    assert [s.compile for s in every] == [False] * 6 + [True] * 6
    assert str(every[-1]) == "bf16, channels last, compiled"


class Made(Programs):
    """Programs that are not run: what each would take is said here."""

    def ours(self, files: Files, source: str, setting: Setting) -> Cost:
        if setting.precision == "tf32":
            raise RuntimeError("CUDA out of memory")
        return Cost({"synthetic": 0.1, "lmdb": 0.125}[source], 300)

    def plain(self, files: Files, source: str, setting: Setting) -> Cost:
        return Cost({"synthetic": 0.05, "lmdb": 0.25}[source], 150)

    def feed(self, files: Files) -> float:
        return 0.025

    def theirs(self, files: Files) -> float:
        return 1.0

    def apart(self, files: Files) -> float:
        return 1e-5 if files.batch == 2 else math.nan


@pytest.fixture
def files(tmp_path: Path) -> Files:
    """A small net, a picture at a time."""
    return Files(tmp_path / "work", SMALL, 1, Length(1, 1), gpu=False)


CAFFE = Caffe(Path("caffe"), None, True, False)


def test_the_rows_say_what_is_beside_what(tmp_path: Path) -> None:
    args = bench.arguments(["--device", "cpu", "--quick", "--compile", "no"])
    made = list(bench.table(args, Made("cpu", CAFFE), tmp_path, []))
    store(tmp_path / "gpu.csv", made, {"gpu": "none"})
    found = list(csv.DictReader((tmp_path / "gpu.csv").read_text().splitlines()[1:]))
    assert tuple(found[0]) == FIELDS
    first = f"{SMALL}, batch 2, fp32, channels last: "
    told = [(r["stage"].removeprefix(first), r["beside"], r["ratio"], r["target"]) for r in found]
    assert told[:5] == [
        ("synthetic", "PyTorch by hand, a batch on the card", "0.5", "0.95"),
        ("LMDB", "recaffe, synthetic", "0.8", "0.970874"),
        ("LMDB", "PyTorch by hand, DataLoader", "2", ""),
        ("LMDB", "caffe train, fp32", "8", "5"),
        ("peak memory", "PyTorch by hand, DataLoader", "0.5", ""),
    ]
    assert len(found) == 11
    last = f"{SMALL}, batch 2: data layer alone"
    assert told[-1] == (last, "the fastest step, synthetic", "4", "")
    assert (found[0]["checked"], found[4]["unit"]) == ("20 pictures a second", "MiB")
    assert found[3]["checked"] == "16 pictures a second; in fp32, losses at most 1e-05 apart"


def test_what_fails_is_named_and_passed_over(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--device", "cpu", "--quick", "--compile", "no", "--precisions", "tf32", "bf16"]
    failed: list[str] = []
    args = bench.arguments([*words, "--batch", "4"])
    made = list(bench.table(args, Made("cpu", CAFFE), tmp_path, failed))
    assert failed == [f"{SMALL} beside Caffe", f"{SMALL}, tf32, channels last"]
    said = capsys.readouterr().err
    assert "losses of recaffe and Caffe are nan apart" in said and "out of memory" in said
    assert len(made) == 5 and not any(row.beside.startswith("caffe") for row in made)


def test_without_caffe_there_are_no_rows_of_it(files: Files) -> None:
    assert rows.of_caffe(files, Made("cpu", None), 1) == ([], "")


@pytest.mark.parametrize("source", ["lmdb", "synthetic"])
def test_recaffe_trains_on_records_and_on_a_batch_in_place(
    source: str, files: Files, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def here(command: list[str], **_: object) -> str:
        monkeypatch.setattr(sys, "argv", command[2:])
        assert ours.main() == 0
        return "".join(capsys.readouterr())

    monkeypatch.setattr(programs, "said", here)
    cost = Programs("cpu", None).ours(files, source, Setting(channels_last=True))
    assert cost.seconds > 0 and cost.peak > 1


def test_steps_that_ran_uncompiled_are_no_figure(
    files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = f"I1125 13:39:22.381027  4711 solver.cpp:1] {programs.UNCOMPILED} do this net"
    monkeypatch.setattr(programs, "said", lambda *_, **__: said)
    with pytest.raises(RuntimeError, match="ran uncompiled"):
        Programs("cpu", None).ours(files, "lmdb", Setting(compile=True))


def test_a_step_is_the_time_between_lines_but_the_first(files: Files) -> None:
    lines = [
        f"I1125 13:39:{second} 7 solver.cpp:1] Iteration {i} (1 iter/s, 1s/1 iters), loss = 7\n"
        f"I1125 13:39:{second} 7 sgd_solver.cpp:1] Iteration {i}, lr = 1e-06\n"
        for i, second in enumerate(("10.000000", "30.000000", "30.500000"))
    ]
    assert programs.step_of("".join(lines), files) == pytest.approx(0.5)
    with pytest.raises(RuntimeError, match="other lines"):
        programs.step_of("".join(lines[:2]), files)


@pytest.mark.parametrize(("precision", "from_lmdb"), [("fp32", False), ("bf16", True)])
def test_the_loop_by_hand_trains_on_both(precision: str, from_lmdb: bool, files: Files) -> None:
    words = [SMALL, "1", "--device=cpu", "--precision", precision, "--steps=1", "--intervals=1"]
    words += ["--channels-last"] + ([f"--lmdb={files.records}"] if from_lmdb else [])
    seconds = loop.train(loop.parser().parse_args(words))
    assert len(seconds) == 1 and seconds[0] > 0


def test_the_data_layer_alone_is_timed(
    files: Files, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    net = str(files.folder / "lmdb.prototxt")
    monkeypatch.setattr(sys, "argv", ["feed", net, "cpu", "2", "3"])
    feed.main()
    assert capsys.readouterr().out.count(",") == 2


def test_a_card_is_named_with_what_its_figures_depend_on(monkeypatch: pytest.MonkeyPatch) -> None:
    class Found:
        name, total_memory, major, minor = "Some GPU", 8 * 2**30, 9, 0

    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: Found)
    monkeypatch.setattr(
        preflight, "found", lambda: [preflight.Card(0, "Some GPU", None, (580, 65))]
    )
    about = card.about("cuda:0")
    assert (about["gpu"], about["gpu_memory"], about["driver"]) == ("Some GPU", "8.0 GiB", "580.65")
    assert {"cuda", "cudnn", "compute_capability"} <= about.keys()
