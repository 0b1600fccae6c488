"""Lists become LMDBs that Caffe reads: each listed picture once, in key order, in BGR."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import lmdb
import numpy as np
import pytest

from recaffe import config, mean
from recaffe.errors import DataError, MachineError, is_out_of_memory
from recaffe.images.resize import resize
from recaffe.lmdb import read, write
from recaffe.lmdb.read import open_lmdb, parse_datum, pixels
from tests.conftest import save, texture
from tests.records import raw, write_lmdb


def settings(**lmdb: Any) -> dict[str, Any]:
    return config.complete(
        {
            "dataset": "d",
            "images": "x",
            "runs": {"a": {"weights": "none", "mean": "file"}},
            "lmdb": {"width": 24, "height": 20, **lmdb},
        }
    )


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    for i in range(23):
        save(texture(i), tmp_path / "p" / f"bild {i} ü.png")
    (tmp_path / "l.txt").write_text("".join(f"bild {i} ü.png {i % 3}\n" for i in range(23)))
    return tmp_path


def records(path: Path) -> dict[str, tuple[int, np.ndarray]]:
    with open_lmdb(path) as env, env.begin() as txn:
        datums = [(key.decode(), parse_datum(value)) for key, value in txn.cursor()]
    return {key.split("_", 1)[1]: (d.label, pixels(d)) for key, d in datums}


@pytest.mark.parametrize("gray", [False, True])
def test_warped_records_are_what_opencv_makes_of_the_file(pictures: Path, gray: bool) -> None:
    n = write.write(
        pictures / "l.txt", str(pictures / "p"), pictures / "db", settings(gray=gray), 0, 2
    )
    found = records(pictures / "db")
    assert n == len(found) == 23
    for i in range(23):
        name = f"bild {i} ü.png"
        flag = cv2.IMREAD_GRAYSCALE if gray else cv2.IMREAD_COLOR
        image = cv2.resize(cv2.imread(str(pictures / "p" / name), flag), (24, 20))
        label, record = found[name]
        assert label == i % 3
        if gray:  # of a PNG, OpenCV leaves the weights to libpng, which rounds otherwise
            assert np.abs(record[0].astype(int) - image).max() <= 2
        else:
            assert (record == image.transpose(2, 0, 1)).all()


@pytest.mark.parametrize("encoded", ["png", "jpg"])
def test_encoded_records_decode_to_the_picture(pictures: Path, encoded: str) -> None:
    write.write(pictures / "l.txt", str(pictures / "p"), pictures / "raw", settings(), 0, 1)
    write.write(
        pictures / "l.txt", str(pictures / "p"), pictures / "db", settings(encoded=encoded), 0, 1
    )
    raw, found = records(pictures / "raw"), records(pictures / "db")
    far = max(np.abs(raw[k][1].astype(int) - found[k][1]).mean() for k in raw)
    assert far == 0 if encoded == "png" else far < 12  # noise at 24×20 is hard for JPEG


def test_two_workers_write_the_same_bytes_as_one(pictures: Path) -> None:
    for n in (1, 2):
        write.write(pictures / "l.txt", str(pictures / "p"), pictures / f"db{n}", settings(), 0, n)
    assert read.describe(pictures / "db1") == read.describe(pictures / "db2")


def test_a_picture_that_vanished_leaves_nothing_behind(pictures: Path) -> None:
    (pictures / "p" / "bild 7 ü.png").unlink()
    with pytest.raises(DataError, match="bild 7 ü.png"):
        write.write(pictures / "l.txt", str(pictures / "p"), pictures / "db", settings(), 0, 2)
    assert not (pictures / "db").exists()
    assert not list(pictures.glob(".db*"))


def test_a_full_disk_is_told_before_writing(
    pictures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(write.shutil, "disk_usage", lambda _: type("U", (), {"free": 1000})())
    with pytest.raises(MachineError, match="MiB free"):
        write.write(pictures / "l.txt", str(pictures / "p"), pictures / "db", settings(), 0, 1)
    assert not (pictures / "db").exists()


@pytest.mark.parametrize(
    ("message", "told"),
    [
        ("No space left on device", "No space left.*db.*run the same command again"),
        ("Input/output error", "No space left.*db.*run the same command again"),
        ("File too large", "^File too large: .*db.*ulimit -f.*run the same command again"),
    ],
)
def test_a_disk_that_fills_while_writing_is_explained(
    pictures: Path, monkeypatch: pytest.MonkeyPatch, message: str, told: str
) -> None:
    def no_room(*args: Any, **options: Any) -> None:
        raise lmdb.Error(f"mdb_txn_commit: {message}")  # as seen on a small tmpfs

    monkeypatch.setattr(write.lmdb, "open", no_room)
    with pytest.raises(MachineError, match=told):
        write.write(pictures / "l.txt", str(pictures / "p"), pictures / "db", settings(), 0, 1)
    assert not list(pictures.glob("*db*"))


def test_an_lmdb_that_memory_lacks_for_is_not_called_broken(
    pictures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_room(*args: Any, **options: Any) -> None:
        raise lmdb.Error("db: Cannot allocate memory")  # as seen under `ulimit -v`

    write.write(pictures / "l.txt", str(pictures / "p"), pictures / "db", settings(), 0, 1)
    monkeypatch.setattr(read.lmdb, "open", no_room)
    with pytest.raises(lmdb.Error) as caught, open_lmdb(pictures / "db"):
        pass
    assert is_out_of_memory(caught.value)


def test_mean_is_exact_and_survives_its_file(pictures: Path) -> None:
    write.write(pictures / "l.txt", str(pictures / "p"), pictures / "db", settings(), 0, 1)
    exact = np.mean([r.astype(np.float64) for _, r in records(pictures / "db").values()], axis=0)
    found = mean.compute(pictures / "db")
    assert np.abs(found - exact).max() < 1e-4
    mean.write(found, pictures / "mean.binaryproto")
    assert (mean.read(pictures / "mean.binaryproto") == found).all()
    with pytest.raises(DataError, match="3×20×24 but the records are 3×24×24"):
        mean.check_fits(found, (3, 24, 24), "mean.binaryproto")


@pytest.mark.parametrize("count", [1, 256, 257, 258, 600])
def test_the_mean_of_white_records_is_white_however_many(count: int, tmp_path: Path) -> None:
    white = raw(np.full((3, 2, 2), 255, np.uint8))
    assert (mean.compute(write_lmdb(tmp_path / "db", [white] * count)) == 255).all()


def test_a_mean_of_pixels_and_floats_is_refused(tmp_path: Path) -> None:
    mixed = [raw(np.zeros((3, 2, 2), np.uint8)), raw(np.zeros((3, 2, 2), np.float32))]
    with pytest.raises(DataError, match="float32 .3, 2, 2., the first uint8"):
        mean.compute(write_lmdb(tmp_path / "db", mixed))


@pytest.mark.parametrize("mode", ["warp", "crop", "fill", "half_crop"])
@pytest.mark.parametrize("size", [(64, 48), (48, 64), (31, 77), (20, 24), (7, 300), (1, 1)])
def test_every_mode_gives_the_size(mode: str, size: tuple[int, int]) -> None:
    assert resize(texture(0, size=size), 24, 20, mode).shape == (20, 24, 3)


def test_crop_keeps_the_middle_and_fill_keeps_everything() -> None:
    image = np.zeros((40, 80, 3), np.uint8)
    image[:, 20:60] = 255
    assert (resize(image, 40, 40, "crop") == 255).all()
    filled = resize(image, 40, 40, "fill")
    assert (filled[10:30, 12:28] == 255).all()
    assert (filled[10:30, :8] == 0).all()
    assert filled[:8].std() > 20, "the ends hold noise, not a border that a net could learn"


def test_same_shape_crops_without_scaling() -> None:
    image = texture(3, size=(24, 20))
    for mode in ("warp", "crop", "fill", "half_crop"):
        assert (resize(image, 24, 20, mode) == image).all()
