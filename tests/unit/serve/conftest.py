"""A small model, served."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from starlette.types import ASGIApp

from recaffe.model import folder
from recaffe.model.classifier import Classifier
from recaffe.serve.app import build
from recaffe.serve.worker import Worker
from tests import small_models
from tests.served import FREE, Held


@pytest.fixture(scope="package")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_models.build(tmp_path_factory.mktemp("serve"))


@pytest.fixture(scope="package")
def model(built: Path) -> folder.Model:
    return folder.read(built / "results" / "own" / "first")


@pytest.fixture(scope="package")
def worker(model: folder.Model) -> Iterator[Worker]:
    with Worker(partial(Classifier, model, threads=1), capacity=64) as started:
        yield started


@pytest.fixture(scope="package")
def app(model: folder.Model, worker: Worker) -> ASGIApp:
    return build(model, worker, FREE, hosts=["127.0.0.1", "localhost"])


@pytest.fixture
def held(model: folder.Model) -> Iterator[Held]:
    made = Held(model)
    yield made
    made.go.set()
