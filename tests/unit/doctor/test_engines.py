"""GPUs and engines, as `recaffe doctor` sees them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from recaffe.doctor import (
    engines,
)
from recaffe.engines import preflight
from recaffe.engines.caffe import find
from tests.unit.doctor.helpers import Program, about, by_name


@pytest.fixture
def smi(program: Program, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], Path]]:
    """Put an nvidia-smi on PATH that lists this card."""
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(preflight, "_has_newer_libcuda", lambda: False)
    preflight.why_torch_sees_none.cache_clear()
    find.gpus.cache_clear()
    yield lambda line: program("nvidia-smi", f"echo '{line}'")
    preflight.why_torch_sees_none.cache_clear()
    find.gpus.cache_clear()


def test_without_a_driver_the_cpu_is_used(program: Program) -> None:
    said = by_name(engines.gpus(about()))
    assert said["GPU"].state == "missing" and "run on the CPU" in said["GPU"].said
    assert said["engine: torch"].ok
    assert "torch on the GPU" not in said


def test_a_driver_that_hangs_costs_its_patience_only(
    program: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    program("nvidia-smi", "exec /bin/sleep 600")
    monkeypatch.setattr(preflight, "patience", 0.2)
    said = by_name(engines.gpus(about()))
    assert said["GPU"].state == "problem" and "timed out" in said["GPU"].said


def test_a_card_that_torch_can_not_use_is_told_with_the_reason(
    smi: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    smi("0, Tesla K80, 595.45.04, GPU-a, 3.7")
    build = preflight.Build("PyTorch 9", (13, 0), preflight.cards.CAFFE.codes, "Take another.")
    monkeypatch.setattr(preflight, "torch_build", lambda: build)
    said = by_name(engines.gpus(about()))
    assert (
        said["GPU"].ok and "Tesla K80 (compute capability 3.7, driver 595.45.4)" in said["GPU"].said
    )
    assert (
        said["torch on the GPU"].state == "problem" and "too old" in said["torch on the GPU"].said
    )
    monkeypatch.setattr(preflight, "torch_build", lambda: None)
    said = by_name(engines.gpus(about()))
    assert (
        said["torch on the GPU"].state == "missing" and "for CPUs" in said["torch on the GPU"].said
    )


@pytest.fixture
def caffe(tmp_path: Path, program: Program, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """A made-up Caffe in CAFFE_HOME, and a Python that imports pycaffe or not."""

    def install(*lines: str, imports: bool = True, cuda: bool = False) -> None:
        file = tmp_path / "caffe" / "bin" / "caffe"
        file.parent.mkdir(parents=True, exist_ok=True)
        mark = "# libcublas.so" if cuda else ""
        file.write_text("\n".join(("#!/bin/sh", *lines, mark, "")))
        file.chmod(0o755)
        monkeypatch.setenv("CAFFE_HOME", str(tmp_path / "caffe"))
        broken = "echo \"ModuleNotFoundError: No module named 'caffe'\" >&2; exit 1"
        monkeypatch.setenv(
            "CAFFE_PYTHON", str(program("pycaffes", "exit 0" if imports else broken))
        )

    return install


def test_caffe_must_start_and_python_import_it(
    caffe: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    caffe("echo caffe version 1.0.0")
    said = by_name(engines.caffe(about()))
    assert said["engine: caffe"].said.startswith("caffe version 1.0.0,") and said["pycaffe"].ok
    assert "Caffe on the GPU" not in said
    caffe("echo 'libprotobuf.so.32: cannot open shared object file' >&2", "exit 127", imports=False)
    said = by_name(engines.caffe(about()))
    assert said["engine: caffe"].state == "problem" and "libprotobuf" in said["engine: caffe"].said
    assert said["pycaffe"].state == "problem" and "No module named 'caffe'" in said["pycaffe"].said
    monkeypatch.setenv("CAFFE_HOME", "/nowhere")
    (missing,) = engines.caffe(about())
    assert missing.state == "missing" and "/nowhere" in missing.said


def test_a_caffe_for_gpus_is_held_against_the_cards(
    caffe: Callable[..., None], smi: Callable[[str], Path], tmp_path: Path
) -> None:
    smi("0, H100, 595.45.04, GPU-a, 9.0")
    caffe("echo caffe version 1.0.0")
    assert by_name(engines.caffe(about()))["Caffe on the GPU"].state == "missing"
    caffe("echo caffe version 1.0.0", cuda=True)
    facts = {"cuda": "13.0", "archs": ["9.0"], "ptx": []}
    (tmp_path / "caffe" / "build.json").write_text(json.dumps(facts))
    assert by_name(engines.caffe(about()))["Caffe on the GPU"].ok
    (tmp_path / "caffe" / "build.json").write_text(json.dumps({**facts, "archs": ["7.5"]}))
    said = by_name(engines.caffe(about()))["Caffe on the GPU"]
    assert said.state == "problem" and "H100 has compute capability 9.0" in said.said
