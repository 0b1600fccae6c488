"""docker/caffe: what its scripts refuse, and which architectures they ask the compiler for."""

from __future__ import annotations

import os
import runpy
import struct
import subprocess
from pathlib import Path

import pytest

from recaffe.config import ROOT

RECIPE = ROOT / "docker" / "caffe"


def _bash(script: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", "-euo", "pipefail", "-c", f". {RECIPE}/cuda/archs.sh; {script}", "-", *arguments],
        capture_output=True, text=True,
    )  # fmt: skip


@pytest.fixture
def nvcc(tmp_path: Path) -> Path:
    """One of CUDA 12.9, as far as the recipe asks it."""
    path = tmp_path / "nvcc"
    codes = "\\n".join(f"sm_{code}" for code in (50, 70, 75, 80, 86, 89, 90, 100, 120))
    path.write_text(
        f"""#!/bin/sh
case $1 in
    --list-gpu-code) printf '{codes}\\n' ;;
    --version) echo 'Cuda compilation tools, release 12.9, V12.9.86' ;;
esac
"""
    )
    path.chmod(0o755)
    return path


def test_each_architecture_gets_machine_code_and_the_newest_ptx() -> None:
    assert _bash('archs_flags "12.0 7.5 9.0"').stdout.split() == [
        "-gencode", "arch=compute_120,code=sm_120",
        "-gencode", "arch=compute_75,code=sm_75",
        "-gencode", "arch=compute_90,code=sm_90",
        "-gencode", "arch=compute_120,code=compute_120",
    ]  # fmt: skip


def test_an_older_toolkit_adds_volta_to_what_is_compiled_for(nvcc: Path) -> None:
    assert _bash('archs_known "$1"', nvcc).stdout == "7.0 7.5 8.0 8.6 9.0 10.0 12.0\n"


def test_an_architecture_that_the_compiler_lacks_is_refused_before_anything_is_compiled(
    nvcc: Path,
) -> None:
    assert _bash('archs_check "$1" "7.0 9.0"', nvcc).returncode == 0
    refused = _bash('archs_check "$1" "9.0 13.0"', nvcc)
    assert refused.returncode == 1
    assert refused.stderr == (
        "CUDA 12.9's compiler has no compute capability 13.0; "
        "it has 5.0 7.0 7.5 8.0 8.6 8.9 9.0 10.0 12.0.\n"
    )


def test_volta_with_cuda_13_is_told_which_toolkit_has_it(nvcc: Path) -> None:
    nvcc.write_text(nvcc.read_text().replace("sm_70\\n", "").replace("12.9", "13.0"))
    refused = _bash('archs_check "$1" 7.0', nvcc)
    assert refused.returncode == 1
    assert "CUDA 12 is the last for 7.0 (Volta): name its toolkit by CUDA_HOME." in refused.stderr


def _fat_binary(*entries: tuple[int, int]) -> bytes:
    """Of (kind, arch): kind 1 is PTX, 2 machine code."""
    body = b"".join(
        struct.pack("<HHIQ", kind, 0x101, 64, 8) + bytes(12) + struct.pack("<I", arch) + bytes(40)
        for kind, arch in entries
    )
    return struct.pack("<IHHQ", 0xBA55ED50, 1, 16, len(body)) + body


def test_what_a_library_has_is_what_all_of_its_fat_binaries_have(tmp_path: Path) -> None:
    library = tmp_path / "libcaffe.so"
    library.write_bytes(
        b"ELF, code and data"
        + _fat_binary((2, 75), (2, 90), (2, 120), (1, 120))
        + bytes(24)
        + _fat_binary((2, 90), (2, 120), (1, 120), (1, 90))
    )
    archs = runpy.run_path(str(RECIPE / "cuda" / "archs.py"))
    assert archs["archs"]([library], archs["KINDS"]["sass"]) == {90, 120}
    assert archs["archs"]([library], archs["KINDS"]["ptx"]) == {120}
    library.write_bytes(b"for CPUs")
    assert archs["archs"]([library], archs["KINDS"]["sass"]) == set()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("missing.tar.gz", "There is no {}, which CAFFE_TARBALL names."),
        (
            "other.tar.gz",
            "The source of Caffe is not the one this recipe is for (SHA-256 {sha}): {}",
        ),
    ],
)
def test_a_named_source_must_be_the_one_of_the_recipe(
    tmp_path: Path, name: str, message: str
) -> None:
    (tmp_path / "other.tar.gz").write_bytes(b"another Caffe")
    work = tmp_path / "work"
    work.mkdir()
    named = tmp_path / name
    done = subprocess.run(
        ["bash", RECIPE / "fetch.sh", work],
        env=os.environ | {"CAFFE_TARBALL": str(named)}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 1
    sha = next(
        line.partition("=")[2]
        for line in (RECIPE / "source.env").read_text().splitlines()
        if line.startswith("CAFFE_SHA256=")
    )
    assert done.stderr == message.format(named, sha=sha) + "\n"
    assert list(work.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "environment", "message"),
    [
        (["gpu"], {}, "Caffe is built for cpu or cuda, not for 'gpu'."),
        (["cuda"], {"CUDA_HOME": "/nowhere"}, "there is no /nowhere/bin/nvcc"),
    ],
)
def test_the_recipe_refuses_what_it_cannot_build(
    tmp_path: Path, arguments: list[str], environment: dict[str, str], message: str
) -> None:
    done = subprocess.run(
        ["bash", RECIPE / "build.sh", tmp_path / "caffe", *arguments],
        env=os.environ | environment, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 1
    assert message in done.stderr
    assert list((tmp_path / "caffe").iterdir()) == []


def test_a_patch_that_finds_nothing_to_change_fails(tmp_path: Path) -> None:
    file = tmp_path / "io.cpp"
    file.write_text("first\nsecond\n")
    script = f'. {RECIPE}/replace.sh; replace "$1" "$2" "$3"'
    changed = subprocess.run(["bash", "-ec", script, "-", file, "first\nsecond", "$both"])
    assert changed.returncode == 0
    assert file.read_text() == "$both\n"
    missing = subprocess.run(
        ["bash", "-ec", script, "-", file, "third", "x"], capture_output=True, text=True
    )
    assert missing.returncode != 0
    assert missing.stderr == f'{file} has no "third"\n'
    assert file.read_text() == "$both\n"
