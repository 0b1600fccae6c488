"""The workflow as a user runs it: a command in a folder of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from recaffe.config import ROOT


def command(config: Path, *options: str, root: Path = ROOT, cores: int = 2) -> list[str]:
    """Snakemake's command line; `root` is the clone of recaffe that runs."""
    return [
        sys.executable, "-m", "snakemake", "--snakefile", str(root / "Snakefile"), "--directory", str(config.parent),
        "--workflow-profile", str(root / "profiles" / "default"), "--cores", str(cores),
        "--configfile", str(config), *options,
    ]  # fmt: skip


def environment() -> dict[str, str]:
    """This process's, with compiled modules kept: jobs are short, and their imports long."""
    return {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}


def snakemake(
    config: Path, *options: str, root: Path = ROOT, cores: int = 2
) -> subprocess.CompletedProcess[str]:
    """Run it to its end, whatever that is."""
    return subprocess.run(
        command(config, *options, root=root, cores=cores),
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        cwd=config.parent,
        env=environment(),
        check=False,
    )


def ran(done: subprocess.CompletedProcess[str]) -> str:
    """What it said; fails with that if it didn't end well."""
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def refused(config: Path, *words: str, options: Sequence[str] = (), root: Path = ROOT) -> None:
    """Ends with a message that has these words, and without a traceback."""
    done = snakemake(config, *options, root=root)
    said = done.stdout + done.stderr
    assert done.returncode != 0, said
    assert "Traceback" not in said, said
    for word in words:
        assert word in said, said
