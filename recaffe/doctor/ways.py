"""The ways to work with recaffe, and what each wants of the machine."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from recaffe.doctor.result import About, Finding

_ALWAYS = ("Python", "packages", "disk", "memory")


@dataclass(frozen=True)
class Way:
    """A way to work: what it is for, and the names of the findings that it lacks."""

    command: str
    lacks: tuple[str, ...]

    @property
    def works(self) -> bool:
        """Whether nothing is lacking."""
        return not self.lacks


def of(findings: Sequence[Finding], about: About, config: str) -> list[Way]:
    """The config's own way first, then all others."""
    good = {finding.name for finding in findings if finding.ok}
    images = sorted(n for n in good if n.startswith("image "))

    def way(command: str, wants: Iterable[str]) -> Way:
        return Way(command, tuple(name for name in dict.fromkeys(wants) if name not in good))

    return [
        way(f"snakemake --cores N --configfile {config}", needed(about)),
        way("make run", (*_ALWAYS, "engine: torch")),
        way("engine: torch", ("engine: torch",)),
        way("engine: torch on a GPU", ("GPU", "torch on the GPU")),
        way("engine: caffe", ("engine: caffe", "pycaffe")),
        way("engine: caffe on a GPU", ("GPU", "pycaffe", "Caffe on the GPU")),
        way("snakemake --use-singularity", (*_ALWAYS, "apptainer", "SIF")),
        way("runtime: docker", ("docker", *(images[:1] or ("image recaffe:cpu",)))),
        way("runtime: docker on a GPU", ("docker", "GPU", "docker with GPUs", "image recaffe:gpu")),
        way("--profile profiles/slurm", (*_ALWAYS, "SLURM", "SLURM plugin")),
    ]


def needed(about: About) -> list[str]:
    """Names of the findings that all of the config's runs want."""
    wants = list(_ALWAYS)
    if about.named and not about.config["images"]["package"]:
        wants.append("pictures")
    for run in about.runs:
        if run["nodes"] > 1:
            wants += ["SLURM", "SLURM plugin"]
        if run["runtime"] == "docker":
            wants += ["docker", f"image {run['image']}", "engine: torch"]
            if run["gpus"] != "none" and run["device"] != "cpu":
                wants.append("docker with GPUs")
            continue
        caffe = run["engine"] == "caffe"
        wants += ["engine: caffe", "pycaffe"] if caffe else ["engine: torch"]
        if run["device"].startswith("cuda"):
            wants += ["GPU", "Caffe on the GPU" if caffe else "torch on the GPU"]
    return wants
