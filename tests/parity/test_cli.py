"""`recaffe train`, `test` and `time` beside `caffe`'s, on the same files: same numbers, same lines."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.golden.make import HERE
from tests.parity.caffe_client import environment

STAMP = r"^I(?:\d{4})?\d{4} \d\d:\d\d:\d\d\.\d{6} +\d+ [a-z_]+\.cpp:\d+\] "
NUMBER = r"-?\d+(?:\.\d+)?(?:e[-+]\d+)?"
# What `caffe` says of the training itself, not of how it builds nets and reads data.
TOLD = re.compile(
    r"Use CPU|Starting Optimization|Resuming from|Solving |Learning Rate Policy|Iteration \d|"
    r"    (Train|Test) net output|Snapshotting|MultiStep|Optimization Done|Running for|Batch \d|Loss: |"
    r"(accuracy|loss) = "
)


@pytest.fixture
def golden(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The golden net and data, where commands run; tests count some of the records twice."""
    for name in ("net.prototxt", "mean.binaryproto", "start.caffemodel"):
        shutil.copy(HERE / name, tmp_path)
    shutil.copytree(HERE / "warped.lmdb", tmp_path / "warped.lmdb")
    text = (HERE / "solver.prototxt").read_text(encoding="utf-8")
    text = text.replace("test_interval: 100", "test_interval: 4").replace("snapshot: 12", "snapshot: 6")  # fmt: skip
    (tmp_path / "solver.prototxt").write_text(text, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def speaking(home: Path) -> dict[str, str]:
    """The environment in which Caffe runs and logs."""
    return {**environment(home), "GLOG_minloglevel": "0"}


def theirs(home: Path, *command: str) -> list[str]:
    """Lines of `caffe`."""
    return _run(str(home / "bin" / "caffe"), *command, env=speaking(home))


def ours(*command: str) -> list[str]:
    """Lines of `recaffe`."""
    return _run(sys.executable, "-m", "recaffe", *command)


def _run(*command: str, env: dict[str, str] | None = None) -> list[str]:
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=env)
    assert done.returncode == 0, done.stderr[-2000:]
    lines = [re.sub(STAMP, "", x) for x in done.stderr.splitlines()]
    return [x for x in lines if TOLD.match(x)]


def shapes(lines: list[str]) -> list[str]:
    """The lines with each number as N."""
    return [re.sub(NUMBER, "N", x.replace("nan", "0").replace("inf", "0")) for x in lines]


def assert_same(ours: list[str], theirs: list[str], tolerance: float = 1e-3) -> None:
    """The same lines, and in them the same numbers but for speeds."""
    assert shapes(ours) == shapes(theirs)
    for a, b in zip(ours, theirs, strict=True):
        a, b = (re.sub(r"\(.* iters\)", "", x) for x in (a, b))
        for x, y in zip(re.findall(NUMBER, a), re.findall(NUMBER, b), strict=True):
            assert abs(float(x) - float(y)) <= tolerance * abs(float(y)), (a, b)


def test_training_tells_the_same_in_the_same_lines(caffe_home: Path, golden: Path) -> None:
    flags = ("train", "-solver", "solver.prototxt", "-weights", "start.caffemodel")
    wanted = theirs(caffe_home, *flags)
    assert_same(ours(*flags), wanted)
    assert sum("Iteration" in x for x in wanted) > 25


@pytest.mark.parametrize("form", ["BINARYPROTO", "HDF5"])
def test_steps_and_snapshots_are_told_in_the_same_lines(
    form: str, caffe_home: Path, golden: Path
) -> None:
    text = (golden / "solver.prototxt").read_text(encoding="utf-8")
    text = text.replace('lr_policy: "step"', 'lr_policy: "multistep"\nstepvalue: 3\nstepvalue: 5')
    text = text.replace("stepsize: 5\n", "") + f"\nsnapshot_format: {form}\n"
    (golden / "solver.prototxt").write_text(text, encoding="utf-8")
    flags = ("train", "-solver", "solver.prototxt", "-weights", "start.caffemodel")
    wanted = theirs(caffe_home, *flags)
    assert sum("MultiStep" in x for x in wanted) == 2
    assert_same(ours(*flags), wanted)


@pytest.mark.parametrize(
    ("changes", "told"),
    [("average_loss: 4", 1), ("average_loss: 40", 1), ("display: 5", 0), ("display: 6", 1)],
)
def test_the_loss_after_the_last_update_is_told_where_caffe_tells_it(
    changes: str, told: int, caffe_home: Path, golden: Path
) -> None:
    """It is one more batch's, whatever iter_size, and averaged with those of the last updates."""
    text = (golden / "solver.prototxt").read_text(encoding="utf-8")
    name = changes.partition(":")[0]
    text = re.sub(rf"^{name}: .*$", "", text, flags=re.MULTILINE) + f"\n{changes}\n"
    (golden / "solver.prototxt").write_text(text, encoding="utf-8")
    flags = ("train", "-solver", "solver.prototxt", "-weights", "start.caffemodel")
    wanted = theirs(caffe_home, *flags)
    assert sum(bool(re.match(r"Iteration 12, loss = ", x)) for x in wanted) == told
    assert_same(ours(*flags), wanted)


def test_a_snapshot_of_caffe_goes_on_as_in_caffe(caffe_home: Path, golden: Path) -> None:
    theirs(caffe_home, "train", "--solver=solver.prototxt", "--weights=start.caffemodel")
    flags = ("train", "--solver=solver.prototxt", "--snapshot=trained_iter_6.solverstate")
    wanted = theirs(caffe_home, *flags)
    assert_same(ours(*flags), wanted)


@pytest.mark.parametrize("batch", [7, 4])
def test_testing_gives_the_same_numbers_of_each_batch(
    batch: int, caffe_home: Path, golden: Path
) -> None:
    net = (golden / "net.prototxt").read_text(encoding="utf-8")
    (golden / "net.prototxt").write_text(net.replace("batch_size: 7", f"batch_size: {batch}"))
    flags = ("test", "-model", "net.prototxt", "-weights", "start.caffemodel", "-iterations", "5")
    wanted = theirs(caffe_home, *flags)
    assert len(wanted) == 2 + 5 * 2 + 3
    assert_same(ours(*flags), wanted, 2e-5)


def test_time_has_the_same_table(caffe_home: Path, golden: Path) -> None:
    command = ("time", "-model", "net.prototxt", "-iterations", "2")
    both = []
    for lines in (_all(sys.executable, "-m", "recaffe", *command), _all(str(caffe_home / "bin" / "caffe"), *command, env=speaking(caffe_home))):  # fmt: skip
        start = next(i for i, x in enumerate(lines) if x.startswith("*** Benchmark begins"))
        # Caffe's layers that copy a blob for each of its readers don't exist here.
        both.append([x for x in shapes(lines[start:]) if "_split" not in x and "Restarting" not in x])  # fmt: skip
    assert both[0] == both[1]


def _all(*command: str, env: dict[str, str] | None = None) -> list[str]:
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=env)
    return [re.sub(STAMP, "", x) for x in done.stderr.splitlines()]
