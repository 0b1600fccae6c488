"""The example that a model's folder has for Caffe users, run by real Caffe."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from tests.parity.caffe_client import environment
from tests.small_models import build, check_example, in_test_order


def test_the_pycaffe_example_agrees(caffe_home: Path, tmp_path: Path) -> None:
    (tmp_path / "made").mkdir()
    built = build(tmp_path / "made")
    model = tmp_path / "taken along"
    shutil.copytree(built / "results" / "own" / "first" / "model", model)
    script = model / "classify_pycaffe.py"
    assert len(script.read_text(encoding="utf-8").splitlines()) <= 25
    env = environment(caffe_home)
    del env["GLOG_minloglevel"]
    python = os.environ.get("CAFFE_PYTHON", "/usr/bin/python3.11")
    done = subprocess.run(
        [python, script, *in_test_order(built)],
        cwd="/", env=env, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "conv" not in done.stderr, "it is quiet"
    check_example(done.stdout, built, 1e-5)
