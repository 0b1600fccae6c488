"""What recaffe:cpu promises: who runs in it, what it says of itself, that its programs work."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from recaffe.config import ROOT
from tests.containers.conftest import NAME, Builder, run

NET = """
name: "small"
layer { name: "data" type: "DummyData" top: "data" top: "label"
  dummy_data_param { shape { dim: 4 dim: 3 dim: 8 dim: 8 } shape { dim: 4 }
    data_filler { type: "gaussian" } data_filler { type: "constant" value: 1 } } }
layer { name: "fc" type: "InnerProduct" bottom: "data" top: "fc"
  inner_product_param { num_output: 3 weight_filler { type: "xavier" } } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "fc" bottom: "label" top: "loss" }
"""
SOLVER = """
net: "net.prototxt" base_lr: 0.01 lr_policy: "fixed" max_iter: 2 display: 1
snapshot_prefix: "snap" solver_mode: CPU
"""

Inside = Callable[..., str]


@pytest.fixture
def inside(sif: Path, tmp_path: Path) -> Inside:
    """Run a command in the SIF, in a folder of its own that is its home, with nothing of the caller's."""

    def call(*command: str, how: str = "exec") -> str:
        return run(
            ["apptainer", "--quiet", how, "--cleanenv", "--no-home", "--bind", f"{tmp_path}:/data",
             "--pwd", "/data", sif, *command]
        )  # fmt: skip

    return call


def test_labels_and_marker_say_what_is_in_it(image: Builder, marker: dict[str, Any]) -> None:
    def label(name: str) -> str:
        return image.words(f"image_label {NAME} {name}").strip()

    versions = marker["versions"]
    assert label("org.opencontainers.image.title") == marker["image"] == NAME
    assert label("org.opencontainers.image.revision") == marker["commit"]
    assert label("org.opencontainers.image.version") == versions["recaffe"]
    assert label("recaffe.recipe") == marker["recipe"]
    assert label("recaffe.caffe") == versions["caffe"]
    assert label("recaffe.torch") == versions["torch"].partition("+")[0]


def test_labels_are_in_the_sif_too(sif: Path, marker: dict[str, Any]) -> None:
    labels = json.loads(run(["apptainer", "inspect", "--json", sif]))["data"]["attributes"][
        "labels"
    ]
    assert labels["recaffe.recipe"] == marker["recipe"]
    assert labels["org.opencontainers.image.revision"] == marker["commit"]


def test_nobody_is_root_in_it(image: Builder) -> None:
    assert image.words(f"image_run {NAME} id -u").strip() == "1000"


def test_the_selftest_finds_no_fault(inside: Inside) -> None:
    assert "Works: recaffe:cpu" in inside("/opt/recaffe/docker/selftest.sh")


@pytest.mark.parametrize("how", ["exec", "run"])
def test_programs_start_with_and_without_the_entrypoint(inside: Inside, how: str) -> None:
    assert "caffe version 1.0.0" in inside("caffe", "--version", how=how)
    assert inside("bash", "-c", "command -v python", how=how).strip() == "/opt/venv/bin/python"
    with pytest.raises(AssertionError, match="a word of its own"):
        inside("python", "-c", "raise SystemExit('a word of its own')", how=how)


def test_the_entrypoint_gives_a_stranger_a_home(image: Builder) -> None:
    home = image.words(
        f"image_run {NAME} env HOME=/nowhere /opt/recaffe/docker/entrypoint.sh "
        "bash -c 'touch $HOME/file && echo $HOME'"
    )
    assert home.startswith("/tmp/")


def test_its_packages_are_the_pinned_ones_and_complete(inside: Inside) -> None:
    inside("python", "-I", "-m", "pip", "check")
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = dict(line.split("==") for line in lines if "==" in line)
    found = {
        p["name"].lower().replace("_", "-"): p["version"].partition("+")[0]
        for p in json.loads(inside("python", "-I", "-m", "pip", "list", "--format", "json"))
    }
    wanted = {name.lower().replace("_", "-"): version for name, version in pins.items()}
    others = found.keys() - wanted.keys() - {"pip", "recaffe"}
    assert not others
    assert {n: v for n, v in found.items() if n in wanted} == {
        n: v for n, v in wanted.items() if n in found
    }
    assert {"torch", "snakemake", "lmdb"} <= found.keys()


def test_recaffe_reads_a_net(inside: Inside, tmp_path: Path) -> None:
    (tmp_path / "net.prototxt").write_text(NET, encoding="utf-8")
    assert "fc" in inside("recaffe", "summary", "net.prototxt")


def test_real_caffe_trains_and_recaffe_reads_its_weights(inside: Inside, tmp_path: Path) -> None:
    (tmp_path / "net.prototxt").write_text(NET, encoding="utf-8")
    (tmp_path / "solver.prototxt").write_text(SOLVER, encoding="utf-8")
    inside("caffe", "train", "--solver", "solver.prototxt")
    read = "from recaffe.net import weights; print(*weights.read('snap_iter_2.caffemodel'))"
    assert "fc" in inside("python", "-c", read)


def test_the_sizes_are_known(image: Builder, sif: Path, capsys: pytest.CaptureFixture[str]) -> None:
    # Some folders aren't for everybody's eyes.
    size = int(image.words(f"image_run {NAME} du -xsm / 2>/dev/null || true").split()[0])
    with capsys.disabled():
        print(f"\n{NAME}: {size} MB; {sif.name}: {sif.stat().st_size / 1e6:.0f} MB")
    assert 500 < size < 3000
