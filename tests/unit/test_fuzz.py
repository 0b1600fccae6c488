"""No parser of files from elsewhere crashes, hangs or swells; see tests/fuzz for more of the same."""

from __future__ import annotations

import re
import subprocess
import sys

from recaffe.config import ROOT
from tests.fuzz.seeds import seeds
from tests.fuzz.targets import TARGETS


def test_thousands_of_damaged_files_are_read_or_refused() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.fuzz.corpus"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        check=False,
    )
    assert done.returncode == 0, f"status {done.returncode}: {done.stderr[-3000:]}"
    match = re.search(r"(\d+) inputs, (\d+) taken, (\d+) refused", done.stdout)
    assert match is not None
    inputs, taken, refused = map(int, match.groups())
    assert inputs > 3000
    assert min(taken, refused) > 200, "mutations should be neither all harmless nor all hopeless"


def test_every_target_has_seeds() -> None:
    assert set(seeds()) == set(TARGETS)
