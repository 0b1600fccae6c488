"""What the tests of the checks hand them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from recaffe import config
from recaffe.doctor.result import About, Finding

Program = Callable[..., Path]
Found = dict[str, Finding]


def about(named: bool = True, images: Any = "x", **run: Any) -> About:
    """A config of one run."""
    given = {"dataset": "d", "images": images, "runs": {"a": {"weights": "none", **run}}}
    return About(config.complete(given), named)


def by_name(found: Iterable[Finding]) -> Found:
    return {finding.name: finding for finding in found}
