"""Real Caffe for the parity tests, and the table of what they measured."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterator
from dataclasses import astuple
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings

from tests.parity.caffe_client import Caffe, find_home
from tests.parity.compare import TABLE

# Derandomised: the same examples in each run, so that a figure in the table can be reproduced.
settings.register_profile(
    "parity",
    max_examples=int(os.environ.get("RECAFFE_PARITY_EXAMPLES", "15")),
    deadline=None,
    derandomize=True,
    database=None,
    # No shrinking: each try that Caffe aborts costs a second.
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
settings.load_profile("parity")


@pytest.fixture(scope="session")
def caffe_home() -> Path:
    """Where real Caffe is installed."""
    home = find_home()
    if home is None:
        pytest.skip(
            "NO REAL CAFFE HERE: nothing was compared. Build it with `make caffe`, or set CAFFE_HOME."
        )
    return home


@pytest.fixture(scope="session")
def caffe(caffe_home: Path) -> Iterator[Caffe]:
    """Real Caffe in a process of its own."""
    client = Caffe(caffe_home)
    yield client
    client.close()


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Where tests are shared over processes, hand what this one's measured to the one that prints."""
    if (output := getattr(session.config, "workeroutput", None)) is not None:
        output["parity"] = [astuple(row) for row in TABLE.rows()]


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Take it; a process that was killed has none."""
    for row in getattr(node, "workeroutput", {}).get("parity", ()):
        TABLE.add(*row)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the worst error of each layer and net; write it to RECAFFE_PARITY_CSV if that is set."""
    rows = TABLE.rows()
    if not rows:
        return
    terminalreporter.section(
        "recaffe beside real Caffe: worst error, relative to the blob's maximum"
    )
    width = max(len(row.what) for row in rows)
    terminalreporter.write_line(f"{'':{width}}  forward   backward  compared")
    for row in rows:
        backward = f"{row.backward:.1e}" if row.backward is not None else "-"
        terminalreporter.write_line(
            f"{row.what:{width}}  {row.forward:.1e}   {backward:8}  {row.compared}"
        )
    if path := os.environ.get("RECAFFE_PARITY_CSV"):
        with Path(path).open("w", newline="", encoding="utf-8") as file:
            out = csv.writer(file, lineterminator="\n")
            out.writerow(("what", "forward", "backward", "compared"))
            out.writerows(
                (r.what, f"{r.forward:.3e}", "" if r.backward is None else f"{r.backward:.3e}",
                 r.compared)
                for r in rows
            )  # fmt: skip
