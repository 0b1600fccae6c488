"""Caffe for GPUs, as far as a machine without one can tell: what it is compiled for, that it runs
from its own folder, that CPU nets work, and what it says where there is no GPU."""

from __future__ import annotations

import json
import os
import re
import runpy
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from recaffe.config import ROOT

RECIPE = ROOT / "docker" / "caffe"
HOME = Path(os.environ.get("CAFFE_CUDA_HOME", ROOT / ".caffe" / "install-cuda"))
NET = """
name: "small"
layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 2 dim: 3 dim: 8 dim: 8 } } }
layer { name: "conv" type: "Convolution" bottom: "data" top: "conv"
  convolution_param { num_output: 4 kernel_size: 3 weight_filler { type: "constant" value: 0.5 } } }
layer { name: "relu" type: "ReLU" bottom: "conv" top: "conv" }
layer { name: "pool" type: "Pooling" bottom: "conv" top: "pool" pooling_param { pool: AVE global_pooling: true } }
"""
FORWARD = """
import sys
import caffe
net = caffe.Net(sys.argv[1], caffe.TEST)
net.blobs["data"].data[...] = 1
print(net.forward()["pool"].ravel().tolist())
"""

no_gpu = pytest.mark.skipif(
    shutil.which("nvidia-smi") is not None, reason="this machine has NVIDIA's driver"
)


@pytest.fixture(scope="module")
def home() -> Path:
    if not (HOME / "build.json").is_file():
        pytest.skip(
            f"NO CAFFE FOR GPUS HERE ({HOME}): nothing was tested. Build it with `make caffe-cuda`, "
            "or set CAFFE_CUDA_HOME."
        )
    return HOME.resolve()


@pytest.fixture(scope="module")
def built(home: Path) -> dict[str, Any]:
    facts: dict[str, Any] = json.loads((home / "build.json").read_text())
    return facts


def _environment(home: Path) -> dict[str, str]:
    """As env.sh sets it, and no help for the loader."""
    kept = {k: v for k, v in os.environ.items() if k not in ("LD_LIBRARY_PATH", "PYTHONPATH")}
    return kept | {"PYTHONPATH": str(home / "python"), "OPENBLAS_NUM_THREADS": "1"}


def _run(
    home: Path, *arguments: str | Path, env: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        arguments,
        capture_output=True,
        text=True,
        timeout=300,
        env=_environment(home) | dict(env or {}),
    )


def _archs(kind: str, *files: Path) -> list[str]:
    archs = runpy.run_path(str(RECIPE / "cuda" / "archs.py"))
    found = archs["archs"](files, archs["KINDS"][kind])
    return [f"{arch // 10}.{arch % 10}" for arch in sorted(found)]


def test_the_library_has_code_for_each_architecture_that_build_json_names(
    home: Path, built: dict[str, Any]
) -> None:
    library = home / "lib" / "libcaffe.so"
    assert built["variant"] == "cuda"
    assert built["archs"]
    assert built["archs"] == _archs("sass", library)
    # PTX of the newest, for cards that are newer still.
    assert built["ptx"] == [built["archs"][-1]] == _archs("ptx", library)
    if asked := os.environ.get("CUDA_ARCHS"):
        assert set(asked.split()) == set(built["archs"])


def test_it_finds_nvidias_libraries_in_its_own_folder(home: Path, built: dict[str, Any]) -> None:
    found = {}
    for program in (home / "bin" / "caffe", home / "python" / "caffe" / "_caffe.so"):
        said = _run(home, "ldd", program).stdout
        assert "not found" not in said
        found |= dict(re.findall(r"(lib(?:cudart|cublas|curand|nccl)\S*) => (\S+)", said))
    names = {name.partition(".")[0] for name in found}
    assert {"libcudart", "libcublas", "libcublasLt", "libcurand"} <= names
    assert ("libnccl" in names) == (built["nccl"] is not None)
    for path in found.values():
        assert Path(path).resolve().parent == home / "lib"


def test_it_can_be_moved(home: Path, tmp_path: Path) -> None:
    moved = tmp_path / "moved"
    # Links on the same file system: its libraries are a gigabyte.
    subprocess.run(f"cp -rl '{home}' '{moved}' || cp -r '{home}' '{moved}'", shell=True, check=True)
    done = _run(moved, moved / "bin" / "caffe", "--version")
    assert done.returncode == 0, done.stderr
    assert "caffe version 1.0.0" in done.stdout
    loaded = _run(moved, "ldd", moved / "bin" / "caffe").stdout
    assert re.search(rf"libcublas\S* => {re.escape(str(moved))}/", loaded)


def test_pycaffe_runs_a_net_on_the_cpu(home: Path, built: dict[str, Any], tmp_path: Path) -> None:
    if built["cudnn"]:
        pytest.skip("with cuDNN, a convolution layer opens the GPU even for the CPU")
    net = tmp_path / "net.prototxt"
    net.write_text(NET)
    done = _run(home, "/usr/bin/python3.11", "-c", FORWARD, net)
    assert done.returncode == 0, done.stderr
    # 27 ones, halved.
    assert json.loads(done.stdout) == [13.5] * 8


def test_caffe_time_runs_on_the_cpu(home: Path, built: dict[str, Any], tmp_path: Path) -> None:
    if built["cudnn"]:
        pytest.skip("with cuDNN, a convolution layer opens the GPU even for the CPU")
    net = tmp_path / "net.prototxt"
    net.write_text(NET)
    done = _run(home, home / "bin" / "caffe", "time", "-model", net, "-iterations", "2")
    assert done.returncode == 0, done.stderr
    assert "Use CPU." in done.stderr
    assert "Average Forward pass" in done.stderr


@no_gpu
def test_without_a_driver_device_query_names_cudas_error(home: Path) -> None:
    done = _run(home, home / "bin" / "caffe", "device_query", "-gpu", "0")
    assert done.returncode != 0
    assert "Check failed: error == cudaSuccess" in done.stderr
    assert "CUDA driver version is insufficient for CUDA runtime version" in done.stderr


@no_gpu
def test_without_a_driver_training_on_a_gpu_names_cudas_error(home: Path, tmp_path: Path) -> None:
    (tmp_path / "net.prototxt").write_text(NET)
    solver = tmp_path / "solver.prototxt"
    solver.write_text(
        f'net: "{tmp_path}/net.prototxt"\nbase_lr: 0.1\nlr_policy: "fixed"\nmax_iter: 1\n'
    )
    done = _run(home, home / "bin" / "caffe", "train", "-solver", solver, "-gpu", "0")
    assert done.returncode != 0
    assert "CUDA driver version is insufficient for CUDA runtime version" in done.stderr


@pytest.mark.parametrize("name", ["softmax_loss_layer", "pooling_layer"])
def test_caffes_kernels_compile_for_each_architecture_of_the_recipe(
    name: str, source: Path, toolkit: Path
) -> None:
    said = subprocess.run(
        [
            "bash", "-euc",
            f'. {RECIPE}/cuda/archs.sh; known=$(archs_known "$1"); echo "$known"; archs_flags "$known"',
            "-", toolkit / "bin" / "nvcc",
        ],
        check=True, capture_output=True, text=True,
    ).stdout  # fmt: skip
    known, flags = said.splitlines()
    compiled = source / f"{name}.o"
    done = subprocess.run(
        [
            toolkit / "bin" / "nvcc", "-std=c++17", "-w", "--expt-relaxed-constexpr", *flags.split(),
            "-Xcompiler", "-fPIC", "-Iinclude", "-Igenerated",
            "-c", f"src/caffe/layers/{name}.cu", "-o", compiled,
        ],
        cwd=source, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert _archs("sass", compiled) == known.split()
    assert _archs("ptx", compiled) == [known.split()[-1]]


@pytest.fixture(scope="module")
def toolkit(home: Path) -> Path:
    """The one that this Caffe was built with."""
    settings = home.parent / "variant.mk"
    if not settings.is_file():
        pytest.skip(f"NOT WHERE IT WAS BUILT ({home}): no architecture was tried")
    path = Path(re.findall(r"^CUDA_DIR := (.*)$", settings.read_text(), re.M)[0])
    if not (path / "bin" / "nvcc").is_file():
        pytest.skip(f"THE TOOLKIT THAT BUILT IT IS GONE ({path}): no architecture was tried")
    return path


@pytest.fixture(scope="module")
def source(home: Path, toolkit: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Caffe's source, patched, with the header that protoc makes."""
    work = tmp_path_factory.mktemp("caffe")
    tarball = next(home.parent.glob("caffe_*.orig.tar.gz"))
    subprocess.run(
        ["bash", RECIPE / "fetch.sh", work],
        check=True,
        env=os.environ | {"CAFFE_TARBALL": str(tarball)},
    )
    source = work / "src"
    for patch in ("patch.sh", "cuda/patch.sh"):
        subprocess.run(["bash", RECIPE / patch, source], check=True)
    generated = source / "generated" / "caffe" / "proto"
    generated.mkdir(parents=True)
    subprocess.run(
        ["protoc", "--proto_path=src/caffe/proto", f"--cpp_out={generated}", "caffe.proto"],
        cwd=source,
        check=True,
    )
    return source
