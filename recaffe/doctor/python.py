"""Python, and recaffe's packages beside the pins."""

from __future__ import annotations

import re
import sys
import tomllib
from collections.abc import Iterator
from importlib import metadata

from recaffe.config import ROOT
from recaffe.doctor.result import About, Finding

_SETUP = "Run `make setup`, and use .venv/bin/recaffe and .venv/bin/snakemake."


def check(about: About) -> Iterator[Finding]:
    """Python, packages, pins."""
    version = ".".join(map(str, sys.version_info[:3]))
    if sys.version_info[:2] == (3, 11):
        yield Finding("Python", "ok", f"{version}, {sys.executable}")
    else:
        yield Finding("Python", "problem", f"{version}, but recaffe is made for 3.11", _SETUP)
    here = {_plain(d.name): d.version for d in metadata.distributions() if d.name}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = [_plain(name) for name in project["dependencies"]]
    if lacking := [name for name in wanted if name not in here]:
        yield Finding("packages", "missing", f"not installed: {', '.join(lacking)}", _SETUP)
    else:
        yield Finding("packages", "ok", f"all {len(wanted)} that recaffe imports")
    pins = dict(_pins((ROOT / "constraints.txt").read_text(encoding="utf-8")))
    # A build's own mark, as in 2.13.0+cpu, is no other version.
    other = [
        f"{name} {here[name]} (pinned {pin})"
        for name, pin in pins.items()
        if name in here and here[name].partition("+")[0] != pin
    ]
    if other:
        said = f"{len(other)} other than tested: {', '.join(other[:4])}{', …' if len(other) > 4 else ''}"
        yield Finding("pins", "problem", f"{said}. Last digits may differ.", _SETUP)
    else:
        yield Finding("pins", "ok", "packages have the versions of constraints.txt")


def _plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _pins(text: str) -> Iterator[tuple[str, str]]:
    for line in text.splitlines():
        name, equal, version = line.partition("==")
        if equal and not line.startswith("#"):
            yield _plain(name), version.split(";")[0].strip()
