"""The image that this process runs in, if it is one of recaffe's (docker/)."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from recaffe.files import sha256

MARKER = Path("/etc/recaffe-image")
# Where Snakemake shows a container the packages of the host's Python, as a last resort for imports.
_HOST = "/mnt/snakemake_searchpaths/"


def name() -> str | None:
    """The image's name and commit; None on a bare machine."""
    if not MARKER.is_file():
        return None
    image = _marker()
    return f"{image['image']}, commit {image['commit']}"


def begins() -> str | None:
    """The line at the top of a job's log: which image it runs in; None on a bare machine."""
    if not (image := name()):
        return None
    line = f"In the image {image}."
    # Here, as it brings the schema's checker, which no job on a bare machine needs to wait for.
    from recaffe.config import ROOT

    pins = ROOT / "constraints.txt"
    if pins.is_file() and sha256(pins) != _marker()["pins"]:
        line += f" Its packages aren't those of {pins}: `make images` builds it anew."
    return line


def ends() -> str | None:
    """The line at the bottom: what was loaded that isn't in the image; None if all of it was."""
    if not MARKER.is_file():
        return None
    foreign = {
        name.partition(".")[0]
        for name, module in list(sys.modules.items())
        if (getattr(module, "__file__", None) or "").startswith(_HOST)
    }
    return f"Not from the image: {', '.join(sorted(foreign))}." if foreign else None


def _marker() -> dict[str, Any]:
    value: dict[str, Any] = json.loads(MARKER.read_text(encoding="utf-8"))
    return value
