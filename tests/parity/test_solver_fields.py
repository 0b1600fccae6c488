"""The solver's `weights` and `debug_info` beside `caffe train`: what starts from them, what is told."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from recaffe.net import weights
from tests.parity.test_cli import (
    STAMP,
    assert_same,
    golden,
    ours,
    speaking,
    theirs,
)

__all__ = ["golden"]  # a fixture

TOLD = re.compile(r"    \[(Forward|Backward)\] |Iteration \d|    (Train|Test) net output")


def solver(folder: Path, **changes: str) -> None:
    """The golden solver with other values, where commands run."""
    path = folder / "solver.prototxt"
    lines = path.read_text(encoding="utf-8").splitlines()
    kept = [x for x in lines if x.partition(":")[0] not in changes]
    path.write_text("\n".join([*kept, *(f"{k}: {v}" for k, v in changes.items())]) + "\n")


def halves(folder: Path) -> None:
    """The start weights in two files, which both have conv2; and others in all layers."""
    start = weights.read(folder / "start.caffemodel")
    names = list(start)
    at = names.index("conv2")
    other = {n: [b * np.float32(0.5) for b in blobs] for n, blobs in start.items()}
    first = {n: start[n] for n in names[:at]} | {"conv2": other["conv2"]}
    second = {n: start[n] for n in names[at:]}
    for name, blobs in (("first", first), ("second", second), ("other", other)):
        net = weights.to_net(name, ((n, "", b) for n, b in blobs.items()))
        weights.write(net, folder / f"{name}.caffemodel")


@pytest.mark.parametrize(
    ("said", "flags", "as_from_start"),
    [
        ('"start.caffemodel"', (), True),
        ('"first.caffemodel, second.caffemodel"', (), True),
        ('"first.caffemodel"\nweights: " second.caffemodel "', (), True),
        ('"second.caffemodel"\nweights: "first.caffemodel"', (), False),
        ('"other.caffemodel"', ("--weights=start.caffemodel",), True),
        ('"other.caffemodel"', ("--snapshot=trained_iter_6.solverstate",), False),
    ],
)
def test_training_starts_from_the_weights_that_the_solver_names(
    said: str, flags: tuple[str, ...], as_from_start: bool, caffe_home: Path, golden: Path
) -> None:
    halves(golden)
    command = ("train", "--solver=solver.prototxt")
    wanted_first = theirs(caffe_home, *command, "--weights=start.caffemodel")
    solver(golden, weights=said)
    wanted = theirs(caffe_home, *command, *flags)
    assert_same(ours(*command, *flags), wanted)
    assert (wanted == wanted_first or losses(wanted) == losses(wanted_first)) == as_from_start


def losses(lines: list[str]) -> list[str]:
    return [x for x in lines if "net output" in x]


@pytest.mark.parametrize(
    "changes", [{"display": "1"}, {"display": "3", "iter_size": "1"}, {"display": "4"}]
)  # fmt: skip
def test_debug_info_tells_of_training_and_test_nets_what_caffe_tells(
    changes: dict[str, str], caffe_home: Path, golden: Path
) -> None:
    solver(golden, **{"debug_info": "true", "test_interval": "4", "max_iter": "8", **changes})
    command = ("train", "--solver=solver.prototxt", "--weights=start.caffemodel")
    wanted = without_splits(
        said(str(caffe_home / "bin" / "caffe"), *command, env=speaking(caffe_home))
    )
    assert sum("[Forward]" in x for x in wanted) > 40 and any("[Backward]" in x for x in wanted)
    assert_same(said(sys.executable, "-m", "recaffe", *command), wanted)


def said(*command: str, env: dict[str, str] | None = None) -> list[str]:
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=env)
    # What it says of the net as a whole is an error to Caffe.
    lines = [re.sub(STAMP.replace("^I", "^[IE]"), "", x) for x in done.stderr.splitlines()]
    return [x for x in lines if TOLD.match(x)]


def without_splits(lines: list[str]) -> list[str]:
    """Without the layers that copy a blob for each of its readers; the copies have its name."""
    kept = [x for x in lines if not re.search(r"Layer \w+_split,", x)]
    return [re.sub(r"([a-z0-9]+)_[a-z0-9]+_\d_split_\d", r"\1", x) for x in kept]
