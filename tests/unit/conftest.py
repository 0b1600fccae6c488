"""Fixtures of several files of tests."""

import shutil
from pathlib import Path

import pytest

from tests.golden.make import HERE


@pytest.fixture
def golden(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The golden net, data and weights, in a folder of their own where commands run."""
    for name in ("net.prototxt", "solver.prototxt", "mean.binaryproto", "start.caffemodel"):
        shutil.copy(HERE / name, tmp_path)
    shutil.copy(HERE / "trained_iter_12.caffemodel", tmp_path / "theirs.caffemodel")
    shutil.copytree(HERE / "warped.lmdb", tmp_path / "warped.lmdb")
    monkeypatch.chdir(tmp_path)
    return tmp_path
