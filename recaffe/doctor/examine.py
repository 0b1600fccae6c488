"""All checks, and what they say together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from recaffe.doctor import bounded, cluster, containers, disk, engines, memory, python, ways
from recaffe.doctor.bounded import Group
from recaffe.doctor.result import About, Finding
from recaffe.doctor.ways import Way

GROUPS = (
    Group("Python and packages", python.check),
    Group("disk", disk.check),
    Group("pictures", disk.pictures),
    Group("memory and cores", memory.check),
    Group("GPUs and PyTorch", engines.gpus),
    Group("Caffe", engines.caffe),
    Group("docker", containers.docker),
    Group("podman and apptainer", containers.others),
    Group("SLURM", cluster.check),
)


def examine(about: About, config: str) -> tuple[list[Finding], list[Way]]:
    """What there is, and which ways work; the first is that of the config, which is so called."""
    found = bounded.run(GROUPS, about)
    return found, ways.of(found, about, config)


def lines(findings: Sequence[Finding], possible: Sequence[Way]) -> list[str]:
    """For a person: a line for each finding, what to do below it, and what will work."""
    width = max(len(f.name) for f in findings)
    out = []
    for finding in findings:
        out.append(f"{finding.state:8} {finding.name:{width}}  {' '.join(finding.said.split())}")
        if finding.todo and not finding.ok:
            out.append(f"{'':8} {'':{width}}  → {finding.todo}")
    out += ["", "What will work:"]
    for way in possible:
        lacks = f"lacks {', '.join(way.lacks)}"
        out.append(
            f"  {'yes' if way.works else 'no':4} {way.command}{'' if way.works else f': {lacks}'}"
        )
    return out


def as_json(findings: Sequence[Finding], possible: Sequence[Way], config: str) -> dict[str, Any]:
    """For a program."""
    return {
        "config": config,
        "works": possible[0].works,
        "findings": [asdict(finding) for finding in findings],
        "ways": [{**asdict(way), "works": way.works} for way in possible],
    }
