"""A config runs no code, in recaffe or in Snakemake."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from recaffe import config
from recaffe.config import ROOT
from recaffe.errors import ConfigError


@pytest.mark.parametrize(
    "text", ["a: !!python/object/apply:os.system ['true']", "a: !!python/name:os.system", "- [" * 5000]
)  # fmt: skip
def test_yaml_tags_and_depth_are_a_message(text: str, tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text(text)
    with pytest.raises(ConfigError, match="not valid YAML"):
        config.load(tmp_path / "c.yaml")


def test_the_workflow_itself_refuses_yaml_tags(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text("a: !!python/object/apply:os.system ['touch harm']")
    done = subprocess.run(
        [sys.executable, "-m", "snakemake", "-n", "--snakefile", str(ROOT / "Snakefile"), "--configfile", "c.yaml"],
        cwd=tmp_path, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False,
    )  # fmt: skip
    assert done.returncode != 0
    assert not (tmp_path / "harm").exists()
