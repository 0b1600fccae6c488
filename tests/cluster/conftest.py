"""One SLURM for each process of pytest, and a workflow that ran undisturbed on one machine."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.slurm import Cluster, hindrance
from tests.cluster.started import PAUSE
from tests.faults.started import forget
from tests.workflow.faults.conftest import clone_to
from tests.workflow.faults.small import Small, write_weights

# Slow where a test wants time to act, without a load on the machine.
SLOW = f"""
_advance = Recorder.advance


def _slowly(self, *iterations):
    time.sleep(float(os.environ.get("{PAUSE}", "0")))
    _advance(self, *iterations)


Recorder.advance = _slowly
"""


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """Three nodes of eight cores and a GPU that is none."""
    if why := hindrance():
        pytest.skip(why)
    # A short path: munge's socket has one.
    folder = Path(tempfile.mkdtemp(prefix="recaffe-slurm-", dir="/var/tmp"))
    cluster = Cluster(folder)
    cluster.start()
    try:
        yield cluster
    finally:
        cluster.stop()
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def begun(tmp_path_factory: pytest.TempPathFactory) -> Small:
    """What a user writes, with pretrained weights; not to be changed."""
    clone = clone_to(tmp_path_factory.mktemp("clone") / "recaffe")
    with (clone / "recaffe" / "engines" / "events.py").open("a", encoding="utf-8") as f:
        f.write(SLOW)
    small = Small.begin(
        tmp_path_factory.mktemp("begun"), runs={"first": {"weights": "start.caffemodel"}}
    )
    small.root = clone
    small.change(train={"max_iter": 110, "test_interval_epochs": 5, "snapshot_epochs": 5})
    write_weights(small.folder / "start.caffemodel", 0)
    return small


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, begun: Small) -> Small:
    """The workflow as one machine finished it; not to be changed."""
    small = begun.without_results(tmp_path_factory.mktemp("undisturbed") / "copy")
    small.run(cores=2)
    return small


@pytest.fixture
def untrained(tmp_path: Path, undisturbed: Small) -> Small:
    """The undisturbed workflow up to its training, as on the cluster's shared disk."""
    small = undisturbed.copy(tmp_path / "small")
    forget(small, "train")
    return small
