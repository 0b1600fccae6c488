"""A workflow that ran undisturbed, to be copied, disturbed and compared with."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.workflow.faults.conftest import clone_to
from tests.workflow.faults.small import Small, write_weights


@pytest.fixture(scope="session")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """recaffe as it is now, whoever edits the checkout meanwhile."""
    return clone_to(tmp_path_factory.mktemp("clone") / "recaffe")


@pytest.fixture(scope="session")
def begun(tmp_path_factory: pytest.TempPathFactory, clone: Path) -> Small:
    """What a user writes, with pretrained weights; not to be changed."""
    small = Small.begin(
        tmp_path_factory.mktemp("begun"), runs={"first": {"weights": "start.caffemodel"}}
    )
    small.root = clone
    small.change(train={"epochs": 20})
    write_weights(small.folder / "start.caffemodel", 0)
    return small


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, begun: Small) -> Small:
    """The finished workflow; not to be changed."""
    small = begun.copy(tmp_path_factory.mktemp("undisturbed") / "copy")
    small.run(cores=2)
    return small
