"""Picture sets in packages: fetched by digest, unpacked with their labels, broken ones refused."""

from __future__ import annotations

import csv
import gzip
import subprocess
from pathlib import Path

import cv2
import numpy as np
import pytest

from recaffe import config
from recaffe.errors import DataError, MachineError
from recaffe.packages import debian, fashion_mnist, openclipart
from recaffe.packages.sets import SETS
from tests.conftest import texture

dpkg = pytest.mark.skipif(
    subprocess.run(["which", "dpkg-deb"], capture_output=True, check=False).returncode != 0,
    reason="no dpkg-deb here",
)


def deb(folder: Path, files: dict[str, bytes], links: dict[str, str] | None = None) -> Path:
    """A Debian package with these files, made by Debian's own tool."""
    root = folder / "root"
    (root / "DEBIAN").mkdir(parents=True)
    (root / "DEBIAN" / "control").write_text(
        "Package: p\nVersion: 1\nArchitecture: all\nMaintainer: n <n@example.org>\nDescription: d\n"
    )
    for name, data in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(data)
    for name, target in (links or {}).items():
        (root / name).symlink_to(target)
    done = subprocess.run(
        ["dpkg-deb", "--build", "--root-owner-group", str(root), str(folder / "p.deb")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return folder / "p.deb"


def idx(values: np.ndarray) -> bytes:
    head = (0x0800 + values.ndim).to_bytes(4, "big") + np.array(values.shape, ">u4").tobytes()
    return gzip.compress(head + values.astype(np.uint8).tobytes())


def clothing(**changes: bytes) -> dict[str, bytes]:
    rng = np.random.default_rng(1)
    files = {}
    for prefix, n in (("train", 5), ("t10k", 3)):
        files[f"{prefix}-images-idx3-ubyte.gz"] = idx(rng.integers(0, 256, (n, 28, 28)))
        files[f"{prefix}-labels-idx1-ubyte.gz"] = idx(np.arange(n) + 2)
    files.update({name.replace("_", "-") + "-ubyte.gz": data for name, data in changes.items()})
    return {f"usr/share/datasets/fashion-mnist/{name}": data for name, data in files.items()}


def table(folder: Path) -> list[dict[str, str]]:
    with (folder / "pictures.csv").open(encoding="utf-8", newline="") as f:
        return list(csv.DictReader(f))


def test_the_config_names_the_sets_that_there_are() -> None:
    allowed = config.schema()["properties"]["images"]["properties"]["package"]["enum"]
    assert allowed == ["", *SETS]


@dpkg
def test_clothing_is_unpacked_with_its_official_split(tmp_path: Path) -> None:
    assert fashion_mnist.unpack(deb(tmp_path, clothing()), tmp_path / "out") == 8
    rows = table(tmp_path / "out")
    assert [row["split"] for row in rows] == ["train"] * 5 + ["test"] * 3
    assert rows[0] == {"path": "train/00000.png", "label": "pullover", "split": "train"}
    rng = np.random.default_rng(1)
    picture = cv2.imread(str(tmp_path / "out" / rows[0]["path"]), cv2.IMREAD_UNCHANGED)
    assert np.array_equal(picture, rng.integers(0, 256, (5, 28, 28))[0])


@dpkg
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"train_images_idx3": b"no gzip"}, "train-images-idx3-ubyte.gz isn't in the IDX format"),
        ({"train_images_idx3": idx(np.zeros(4))}, "isn't in the IDX format: its first number"),
        ({"train_images_idx3": gzip.compress(b"\0\0\10\3" + b"\0\0\0\7" * 3)}, "isn't in the IDX"),
        ({"t10k_labels_idx1": idx(np.zeros(2))}, "labels of test don't belong"),
        ({"t10k_labels_idx1": idx(np.full(3, 10))}, "labels of test don't belong"),
    ],
)
def test_clothing_that_is_laid_out_otherwise_is_a_message(change, message, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=message):
        fashion_mnist.unpack(deb(tmp_path, clothing(**change)), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def drawings(classes=openclipart.CLASSES) -> dict[str, bytes]:
    png = cv2.imencode(".png", texture(1))[1].tobytes()
    names = [f"{name}/{sub}a, b.png" for name in classes for sub in ("", "below/")]
    names += ["special/a.png", "unsorted/a.png", "animals/notes.txt"]
    return {f"usr/share/openclipart/png/{name}": png for name in names}


@dpkg
def test_drawings_count_where_they_are_at_home(tmp_path: Path) -> None:
    links = {"usr/share/openclipart/png/animals/linked.png": "../food/a, b.png"}
    out = tmp_path / "out"
    assert openclipart.unpack(deb(tmp_path, drawings(), links), out) == 22
    rows = table(out)
    assert {row["label"] for row in rows} == set(openclipart.CLASSES)
    assert all((out / row["path"]).is_file() for row in rows)
    assert not list(out.rglob("linked.png")) and not (out / "special").exists()


@dpkg
def test_drawings_that_lack_a_subject_are_a_message(tmp_path: Path) -> None:
    package = deb(tmp_path, drawings(openclipart.CLASSES[1:]))
    with pytest.raises(DataError, match="lacks subjects"):
        openclipart.unpack(package, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@dpkg
@pytest.mark.parametrize("pictures", [fashion_mnist, openclipart])
@pytest.mark.parametrize("data", [b"", b"<html>", b"!<arch>\ndebian-binary   "])
def test_what_is_no_package_is_a_message(pictures, data: bytes, tmp_path: Path) -> None:
    (tmp_path / "p.deb").write_bytes(data)
    with pytest.raises(DataError, match="p.deb"):
        pictures.unpack(tmp_path / "p.deb", tmp_path / "out")


def test_without_apt_a_package_of_debian_is_a_message(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(
        MachineError, match="no apt-get here.*apt-get download p.*put the file here"
    ):
        debian.fetch("p", "1", "0" * 64, tmp_path / "p.deb")


def fake_apt(folder: Path, says: str) -> None:
    """An apt-get that does this: what it downloads can't be had in a test."""
    for name, text in (("apt-get", says), ("dpkg-deb", "")):
        (folder / name).write_text(f"#!/bin/sh\n{text}\n")
        (folder / name).chmod(0o755)


def test_a_package_that_apt_lacks_is_a_message(tmp_path: Path, monkeypatch) -> None:
    fake_apt(tmp_path, "echo 'E: Version 1 of p was not found' >&2; exit 100")
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    with pytest.raises(MachineError, match="apt-get said: E: Version 1 of p was not found"):
        debian.fetch("p", "1", "0" * 64, tmp_path / "p.deb")


def test_a_package_of_other_content_is_not_kept(tmp_path: Path, monkeypatch) -> None:
    fake_apt(tmp_path, "echo other > p_1_all.deb")
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    with pytest.raises(MachineError, match="has the SHA-256"):
        debian.fetch("p", "1", "0" * 64, tmp_path / "out.deb")
    assert not (tmp_path / "out.deb").exists()
