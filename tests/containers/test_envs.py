"""The conda environments' pip part, resolved for real."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from recaffe.config import ROOT


@pytest.mark.parametrize("name", ["tools.yaml", "torch.yaml", "caffe.yaml"])
def test_an_environment_resolves_to_exactly_its_pins(name: str, tmp_path: Path) -> None:
    text = (ROOT / "envs" / name).read_text(encoding="utf-8")
    pins = yaml.safe_load(text)["dependencies"][-1]["pip"]
    report = tmp_path / "report.json"
    subprocess.run(
        [
            sys.executable, "-m", "pip", "install", "--quiet", "--dry-run", "--ignore-installed",
            "--report", report, *pins,
        ],
        check=True,
    )  # fmt: skip
    found = json.loads(report.read_text(encoding="utf-8"))["install"]
    resolved = {(_key(p["metadata"]["name"]), _public(p["metadata"]["version"])) for p in found}
    assert resolved == {(_key(n), v) for n, v in (pin.split("==") for pin in pins)}


def _public(version: str) -> str:
    """Without the build's name: torch 2.13.0+cpu is 2.13.0."""
    return version.partition("+")[0]


def _key(name: str) -> str:
    return name.lower().replace("_", "-").replace(".", "-")
