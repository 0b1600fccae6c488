"""Files that real Caffe 1.0 wrote (tests/golden/make.py) and what recaffe makes of the same input."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from recaffe import config, mean
from recaffe.engines.base import TrainJob
from recaffe.engines.torch.train import train
from recaffe.lmdb.read import open_lmdb, parse_datum
from recaffe.lmdb.write import write
from recaffe.net import weights
from recaffe.proto import caffe_pb2 as pb
from tests.golden.make import HEIGHT, HERE, WIDTH, pictures


def datums(path: Path) -> dict[str, pb.Datum]:
    with open_lmdb(path) as env, env.begin() as txn:
        return {bytes(k).decode().split("_", 1)[1]: parse_datum(v) for k, v in txn.cursor()}


def test_warped_records_equal_convert_imageset_to_the_byte(tmp_path: Path) -> None:
    names = pictures(tmp_path)
    (tmp_path / "list.txt").write_text("".join(f"{n} {i % 3}\n" for i, n in enumerate(names)))
    full = config.complete(
        {
            "dataset": "d",
            "images": "x",
            "runs": {"a": {"weights": "none"}},
            "lmdb": {"width": WIDTH, "height": HEIGHT},
        }
    )
    write(tmp_path / "list.txt", str(tmp_path), tmp_path / "db", full, 0, 1)
    theirs, ours = datums(HERE / "warped.lmdb"), datums(tmp_path / "db")
    assert set(theirs) == set(ours) == set(names)
    for name in names:
        assert (ours[name].channels, ours[name].height, ours[name].width) == (3, HEIGHT, WIDTH)
        assert ours[name].label == theirs[name].label
        assert ours[name].data == theirs[name].data, name


def test_mean_equals_compute_image_mean() -> None:
    theirs = mean.read(HERE / "mean.binaryproto")
    assert np.abs(mean.compute(HERE / "warped.lmdb") - theirs).max() < 1e-4


def test_mean_file_is_written_as_caffe_writes_it(tmp_path: Path) -> None:
    theirs = mean.read(HERE / "mean.binaryproto")
    mean.write(theirs, tmp_path / "mean.binaryproto")
    assert (tmp_path / "mean.binaryproto").read_bytes() == (HERE / "mean.binaryproto").read_bytes()


def test_training_ends_with_the_weights_of_caffe_train(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for file in ("net.prototxt", "solver.prototxt", "mean.binaryproto", "start.caffemodel"):
        shutil.copy(HERE / file, tmp_path)
    shutil.copytree(HERE / "warped.lmdb", tmp_path / "warped.lmdb")
    monkeypatch.chdir(tmp_path)
    start = weights.read("start.caffemodel")
    train(
        TrainJob(Path("solver.prototxt"), Path("snap"), Path("start.caffemodel"), tuple(start),
                 Path("final.caffemodel"), Path("log"), Path("csv"), select="last")
    )  # fmt: skip
    ours, theirs = (
        weights.read("final.caffemodel"),
        weights.read(HERE / "trained_iter_12.caffemodel"),
    )
    assert set(ours) == set(theirs) == set(start)
    for name, blobs in theirs.items():
        for ours_blob, blob, first in zip(ours[name], blobs, start[name], strict=True):
            moved = np.abs(blob - first).max()
            assert moved > 1e-3, "a layer that did not learn would compare nothing"
            assert np.abs(ours_blob - blob).max() < 1e-3 * moved, name


def test_gray_records_differ_from_convert_imageset_by_rounding_only(tmp_path: Path) -> None:
    names = pictures(tmp_path)
    (tmp_path / "list.txt").write_text("".join(f"{n} {i % 3}\n" for i, n in enumerate(names)))
    row = {"weights": "none", "mean": "file"}
    full = config.complete(
        {
            "dataset": "d",
            "images": "x",
            "runs": {"a": row},
            "lmdb": {"width": WIDTH, "height": HEIGHT, "gray": True},
        }
    )
    write(tmp_path / "list.txt", str(tmp_path), tmp_path / "db", full, 0, 1)
    theirs, ours = datums(HERE / "gray.lmdb"), datums(tmp_path / "db")
    for name in names:
        # OpenCV leaves a PNG's gray to libpng, whose weights are rounded otherwise.
        a, b = (np.frombuffer(d[name].data, np.uint8).astype(int) for d in (ours, theirs))
        assert np.abs(a - b).max() <= 2
