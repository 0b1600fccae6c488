"""`--use-conda`: which of envs/ the rules ask for. Conda itself says only that it is there."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.workflow.faults.small import Small

CONDA = """#!/bin/sh
case "$*" in
"info --json") echo '{"conda_prefix": "/nowhere", "platform": "linux-64"}' ;;
"--version") echo "conda 25.9.1" ;;
*) echo '{"get": {"channel_priority": "strict"}}' ;;
esac
"""


def test_only_rules_that_run_a_net_ask_for_an_engine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "bin" / "conda"
    program.parent.mkdir()
    program.write_text(CONDA, encoding="utf-8")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:/usr/bin:/bin")
    small = Small.begin(tmp_path / "small")
    wanted = {
        target: _environments(small, f"results/own/{target}")
        for target in ("data/manifest.csv", "first/solver.prototxt", "first/final.caffemodel")
    }
    assert wanted == {
        "data/manifest.csv": {"tools.yaml"},
        "first/solver.prototxt": {"tools.yaml"},
        "first/final.caffemodel": {"tools.yaml", "torch.yaml"},
    }


def _environments(small: Small, target: str) -> set[str]:
    small.run("--list-conda-envs", "--software-deployment-method", "conda", "--", target)
    return {Path(line.split("\t")[0]).name for line in small.said.splitlines() if "/envs/" in line}
