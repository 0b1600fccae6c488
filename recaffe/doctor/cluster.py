"""SLURM, and Snakemake's plugin for it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from importlib import metadata

from recaffe.doctor.bounded import ask
from recaffe.doctor.result import About, Finding
from recaffe.errors import MachineError

_PLUGIN = "snakemake-executor-plugin-slurm"


def check(about: About) -> Iterator[Finding]:
    """SLURM, SLURM plugin."""
    yield _slurm()
    try:
        said = f"{_PLUGIN} {metadata.version(_PLUGIN)}"
        yield Finding("SLURM plugin", "ok", said)
    except metadata.PackageNotFoundError:
        yield Finding("SLURM plugin", "missing", f"no {_PLUGIN}", "Run `make setup`.")


def _slurm() -> Finding:
    if shutil.which("sinfo") is None:
        said = "no sinfo on PATH: this is no node of a SLURM cluster"
        return Finding("SLURM", "missing", said, "Run recaffe on a login node of the cluster.")
    try:
        partitions = ask("sinfo", "--noheader", "--format=%P %D").splitlines()
    except MachineError as error:
        todo = "Is slurmctld up, and slurm.conf the cluster's? Ask its administrators."
        return Finding("SLURM", "problem", str(error), todo)
    shown = ", ".join(
        f"{p.split()[0]} ({p.split()[-1]} nodes)" for p in partitions[:5] if p.split()
    )
    return Finding("SLURM", "ok", f"partitions: {shown or 'none'}")
