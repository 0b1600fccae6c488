"""Whether an engine's code runs on a card, by what a made-up nvidia-smi says of it."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from recaffe.config import ROOT
from recaffe.engines import cards, pick, preflight
from recaffe.engines.base import TrainJob
from recaffe.engines.caffe import find
from recaffe.engines.cards import Build, Code, codes_of
from recaffe.engines.torch import devices
from recaffe.errors import MachineError, TrainError
from tests.training import write_training

# Caffe as the recipe builds it by default.
CAFFE = Build("the Caffe here", (13, 0), cards.CAFFE.codes, "Build it for {card}.")
NEW_DRIVER = "595.45.04"
Smi = Callable[..., None]


@pytest.fixture
def smi(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Smi:
    """Put an nvidia-smi on PATH that says this, and nothing else there but Python."""
    preflight.why_torch_sees_none.cache_clear()
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.delenv("CUDA_DEVICE_ORDER", raising=False)
    monkeypatch.setattr(preflight, "_has_newer_libcuda", lambda: False)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))

    def write(*lines: str, status: int = 0) -> None:
        program = tmp_path / "bin" / "nvidia-smi"
        program.parent.mkdir(exist_ok=True)
        text = "\n".join(lines)
        program.write_text(
            f"#!{sys.executable} -S\nimport sys\nprint({text!r})\nsys.exit({status})\n"
        )
        program.chmod(0o755)

    return write


def card(name: str, capability: str, driver: str = NEW_DRIVER, index: int = 0) -> str:
    return f"{index}, {name}, {driver}, GPU-{index}aaa, {capability}"


def caffe_in(folder: Path, **facts: object) -> Path:
    known = {"cuda": "13.0", "archs": ["7.5", "8.0", "8.6", "9.0", "10.0", "12.0"], "ptx": ["12.0"]}
    (folder / "build.json").write_text(json.dumps({**known, **facts}))
    return folder


def said_of(smi: Smi, line: str, build: Build = CAFFE) -> str | None:
    smi(line)
    (found,) = preflight.found()
    return preflight.problem(found, build)


@pytest.mark.parametrize(
    ("name", "capability"),
    [("Tesla T4", "7.5"), ("RTX 4090", "8.9"), ("H100", "9.0"), ("B300", "10.3"), ("GB10", "12.1")],
)
def test_a_card_of_the_same_generation_runs_the_code(smi: Smi, name: str, capability: str) -> None:
    assert said_of(smi, card(name, capability)) is None


@pytest.mark.parametrize(
    ("name", "capability", "words"),
    [
        ("Tesla V100", "7.0", "Tesla V100 has compute capability 7.0.*too old.*Build it for 7.0"),
        ("Tesla K80", "3.7", "compiled for 7.5, 8.0, 8.6, 9.0, 10.0, 12.0 and PTX for 12.0"),
        ("AGX Thor", "11.0", "AGX Thor has compute capability 11.0.*device: cpu"),
    ],
)
def test_a_card_without_code_is_refused_with_what_helps(
    smi: Smi, name: str, capability: str, words: str
) -> None:
    assert re.search(words, said_of(smi, card(name, capability)) or "")


def test_a_card_too_new_for_a_build_without_ptx_is_refused(smi: Smi) -> None:
    said = said_of(smi, card("RTX 5090", "12.0"), cards.BVLC) or ""
    assert (
        "bvlc/caffe:gpu is compiled for 2.0, 3.0, 3.5, 5.0, 6.0, 6.1: the card is too new" in said
    )


def test_a_card_newer_than_all_code_runs_by_ptx_if_the_driver_can_compile_it(smi: Smi) -> None:
    assert said_of(smi, card("Next", "14.0")) is None
    # Within CUDA 13 any driver from 580 on runs machine code, but PTX wants that of its own CUDA.
    assert said_of(smi, card("RTX 5090", "12.0", "580.10")) is None
    said = said_of(smi, card("Next", "14.0", "580.10")) or ""
    assert "for this card has but PTX for the driver to compile, which wants 580.65.06" in said


def test_code_for_one_card_alone_runs_on_no_other() -> None:
    only = Build("x", (12, 8), tuple(c for n in ("sm_90a",) if (c := cards.code_of(n))))
    assert only.code_for((9, 0)) == Code((9, 0), only=True)
    assert only.code_for((9, 1)) is None
    assert cards.code_of("compute_120") == Code((12, 0), ptx=True)
    assert cards.code_of("gfx90a") is None


@pytest.mark.parametrize(
    ("driver", "cuda", "words"),
    [
        (
            "535.183.01",
            (13, 0),
            "driver 535.183.01 is too old.*CUDA 13.0.*wants 580 or newer. Update",
        ),
        ("525.60.12", (12, 6), "wants 525.60.13 or newer"),
        ("525.60.13", (12, 6), None),
        ("580.65.06", (13, 0), None),
        ("1.0", (99, 0), None),  # of a CUDA that nobody knows yet nothing is said
    ],
)
def test_the_driver_must_be_new_enough_for_the_build(
    smi: Smi, driver: str, cuda: tuple[int, int], words: str | None
) -> None:
    said = said_of(smi, card("H100", "9.0", driver), Build("x", cuda, CAFFE.codes))
    assert (said is None) if words is None else re.search(words, said or "")


def test_an_old_driver_is_let_through_where_a_newer_libcuda_is_installed(
    smi: Smi, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(preflight, "_has_newer_libcuda", lambda: True)
    assert said_of(smi, card("H100", "9.0", "535.183.01")) is None


def test_a_driver_too_old_to_tell_the_capability_is_told_as_too_old(
    tmp_path: Path, smi: Smi
) -> None:
    smi("")
    (tmp_path / "bin" / "nvidia-smi").write_text(
        f"#!{sys.executable} -S\nimport sys\n"
        "if 'compute_cap' in sys.argv[1]:\n"
        "    print('Field \"compute_cap\" is not a valid field to query.')\n    sys.exit(2)\n"
        "print('0, Tesla K80, 470.82.01, GPU-0')\n"
    )
    (found,) = preflight.found()
    assert found.capability is None
    assert "driver 470.82.01 is too old" in (preflight.problem(found, CAFFE) or "")


@pytest.mark.parametrize(
    ("lines", "status", "words"),
    [
        (["NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver."], 9,
         "driver doesn't work here; nvidia-smi says: NVIDIA-SMI has failed"),
        (["Failed to initialize NVML: Driver/library version mismatch"], 18, "wants a restart"),
        (["No devices were found"], 6, "finds no card in this machine"),
        ([""], 0, "finds no card in this machine"),
        (["<html>"], 0, "doesn't list cards but says: '<html>'"),
        (["0, H100, [N/A], GPU-0, 9.0"], 0, "doesn't list cards"),
        (["0, H100, 580.65.06, GPU-0, nine"], 0, "doesn't list cards"),
    ],
)  # fmt: skip
def test_a_driver_that_does_not_work_is_one_message(
    smi: Smi, lines: list[str], status: int, words: str
) -> None:
    smi(*lines, status=status)
    with pytest.raises(MachineError, match=words):
        preflight.found()


def test_without_a_driver_the_message_says_how_containers_get_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(
        MachineError, match="no nvidia-smi.*docker run --gpus all, apptainer exec --nv"
    ):
        preflight.found()


def test_only_the_cards_that_cuda_sees_count(smi: Smi) -> None:
    smi(card("K80", "3.7"), card("H100", "9.0", index=1), card("T4", "7.5", index=2))
    there = preflight.found()

    def seen(value: str) -> list[str]:
        return [c.name for c in preflight.visible(there, {"CUDA_VISIBLE_DEVICES": value})]

    assert seen("2,1") == ["T4", "H100"]
    assert seen("GPU-1") == ["H100"]
    assert seen("1,-1,2") == ["H100"]
    assert seen("") == []
    assert seen("MIG-5c6f") == ["K80", "H100", "T4"]
    assert len(preflight.visible(there, {})) == 3


def test_caffe_is_checked_by_what_its_own_folder_says(smi: Smi, tmp_path: Path) -> None:
    home = caffe_in(tmp_path, archs=["9.0"], ptx=[])
    smi(card("H100", "9.0"))
    preflight.check_caffe(home, [0])
    smi(card("A100", "8.0"))
    with pytest.raises(MachineError, match=r"compiled for 9\.0.*CUDA_ARCHS=8\.0 make caffe-cuda"):
        preflight.check_caffe(home, [0])
    caffe_in(tmp_path, cuda=None, archs=[], ptx=[])
    preflight.check_caffe(home, [0])  # for CPUs: it isn't asked for GPUs
    (home / "build.json").unlink()
    preflight.check_caffe(home, [0])  # somebody's own
    (home / "build.json").write_text("{")
    with pytest.raises(MachineError, match="can't be read.*make caffe-cuda"):
        preflight.check_caffe(home, [0])


def test_an_old_card_beside_the_one_that_is_used_is_no_matter(
    smi: Smi, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = caffe_in(tmp_path)
    smi(card("K80", "3.7"), card("H100", "9.0", index=1))
    preflight.check_caffe(home, [0])  # CUDA's first is the fastest, nvidia-smi's another
    with pytest.raises(MachineError, match="K80"):
        preflight.check_caffe(home, [0, 1])
    monkeypatch.setenv("CUDA_DEVICE_ORDER", "PCI_BUS_ID")
    preflight.check_caffe(home, [1])
    with pytest.raises(MachineError, match="K80"):
        preflight.check_caffe(home, [0])


def test_caffe_does_not_start_on_a_card_that_it_has_no_code_for(
    smi: Smi, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = caffe_in(tmp_path, archs=["9.0"], ptx=[])
    (home / "bin").mkdir()
    (home / "bin" / "caffe").write_text("libcublas.so")
    (home / "bin" / "caffe").chmod(0o755)
    monkeypatch.setenv("CAFFE_HOME", str(home))
    smi(card("A100", "8.0"))
    find.gpus.cache_clear()
    snapshots = tmp_path / "snapshots"
    job = TrainJob(
        write_training(tmp_path / "in"),
        snapshots=snapshots,
        final=snapshots / "final.caffemodel",
        log=snapshots / "train.log",
        engine="caffe",
        threads=1,
    )
    try:
        with pytest.raises(
            MachineError, match=r"A100 has compute capability 8\.0, and the Caffe in"
        ):
            pick.train(job)
    finally:
        find.gpus.cache_clear()


def test_torch_refuses_a_card_that_it_has_no_code_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.version, "cuda", "12.6")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "get_arch_list", lambda: ["sm_80", "sm_90"])
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda index: "RTX 5090")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda index: (12, 0))
    with pytest.raises(
        MachineError, match="RTX 5090 has .* 12.0, and PyTorch .* 8.0, 9.0: .*too new"
    ):
        devices.pick_device("auto")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda index: (8, 6))
    assert devices.pick_device("auto") == torch.device("cuda", 0)


def test_torch_says_why_it_sees_no_gpu(
    smi: Smi, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    smi(card("H100", "9.0", "535.183.01"))
    with pytest.raises(
        TrainError, match="sees no GPU here. The NVIDIA driver 535.183.01 is too old"
    ):
        devices.pick_device("cuda")
    for _ in range(2):
        assert devices.pick_device("auto").type == "cpu"
    said = capsys.readouterr().out
    assert said.count("PyTorch sees no GPU: the CPU is used. The NVIDIA driver 535.183.01") == 1
    preflight.why_torch_sees_none.cache_clear()
    monkeypatch.setattr(torch.version, "cuda", None)
    with pytest.raises(
        TrainError, match="This PyTorch is built for CPUs, so it can't use the H100"
    ):
        devices.pick_device("cuda")
    preflight.why_torch_sees_none.cache_clear()
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    with pytest.raises(TrainError, match="CUDA_VISIBLE_DEVICES hides all"):
        devices.pick_device("cuda")


def test_what_was_found_is_described(
    smi: Smi, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = caffe_in(tmp_path)
    (home / "bin").mkdir(exist_ok=True)
    (home / "bin" / "caffe").write_text("")
    (home / "bin" / "caffe").chmod(0o755)
    monkeypatch.setenv("CAFFE_HOME", str(home))
    monkeypatch.setattr(torch.version, "cuda", "12.6")
    smi(card("RTX 5090", "12.0"))
    text, fits = preflight.describe()
    assert fits
    assert "GPU 0: RTX 5090, compute capability 12.0, driver 595.45.04" in text
    assert re.search(r"engine: torch: PyTorch .*\n  GPU 0: RTX 5090 has .* too new", text)
    assert re.search(r"engine: caffe: .*\n  GPU 0: runs", text)


def test_the_table_in_the_documentation_is_that_of_the_data() -> None:
    assert cards.table() in (ROOT / "docs" / "gpus.md").read_text(encoding="utf-8")


def test_the_data_is_that_of_the_recipe_and_of_the_pinned_torch() -> None:
    pins = (ROOT / "constraints.txt").read_text(encoding="utf-8")
    assert f"\ntorch=={cards.TORCH_VERSION}\n" in f"\n{pins}", (
        "look up PyTorch's new support matrix"
    )
    assert cards.TORCH_VERSION in (ROOT / "docs" / "gpus.md").read_text(encoding="utf-8")
    recipe = (ROOT / "docker" / "caffe" / "cuda" / "archs.sh").read_text(encoding="utf-8")
    built = re.search(r'^ARCHS_OF_WHEELS="([^"]+)"', recipe, re.M)
    assert built
    assert cards.CAFFE.codes == codes_of(built[1], built[1].split()[-1])
    toolkit = (ROOT / "docker" / "caffe" / "cuda" / "requirements.txt").read_text(encoding="utf-8")
    assert f"nvidia-cuda-nvcc=={cards.dotted(cards.CAFFE.cuda)}." in toolkit
