"""How long one waits before anything happens."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

from bench.measure import Row, Way, beside, seconds


def rows(recaffe: Path, runs: int) -> Iterator[Row]:
    """`recaffe --help` beside Python itself: heavy packages are imported only where needed."""
    ours = Way("", lambda: seconds([recaffe, "--help"]))
    bare = Way("python -c pass", lambda: seconds([sys.executable, "-c", "pass"]))
    yield beside("recaffe --help", ours, bare, runs, None, "")
