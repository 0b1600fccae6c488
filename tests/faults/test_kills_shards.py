"""Kills of the rules that write LMDBs and means in shards, while a few pictures have changed.

The same command then ends with what an empty folder gives, and decodes no picture that it had.
"""

from __future__ import annotations

import random
import re
from pathlib import Path
from typing import Any

import pytest

from recaffe.lmdb import read
from tests.conftest import save, texture
from tests.faults.started import RUNS, SHARDED, SIGNALS, disturb, leftovers
from tests.workflow.faults.small import Small, digest, write_pictures

SHARDS = 2
CASES = max(6, RUNS // 2)
SECONDS = 1.0  # that most of these rules take, imports included
# No training, and the training LMDB alone.
TARGETS = ("--", "results/own/data/train_lmdb.json", "results/own/data/mean.binaryproto")


def content(small: Small) -> dict[str, Any]:
    """Every record of the joined LMDB, and the mean."""
    data = small.results / "data"
    return {**read.describe(data / "train_lmdb"), "mean": digest(data / "mean.binaryproto")}


def change(small: Small) -> None:
    """A few pictures come, and a few go."""
    pics = small.folder / "pics"
    for i in range(12):
        save(texture(7000 + i, 1, (24, 24)), pics / "b" / f"new {i}.png")
    for i in range(2):
        (pics / "c" / f"{i:02d}.png").unlink()


@pytest.fixture(scope="module")
def sharded(tmp_path_factory: pytest.TempPathFactory, begun: Small) -> Small:
    """LMDBs in shards of some dozens of records, so large that they are worth an update."""
    small = begun.copy(tmp_path_factory.mktemp("sharded") / "copy")
    write_pictures(small.folder / "pics", count=50)
    small.change(lmdb={"width": 64, "height": 64, "shards": SHARDS})
    small.run(*TARGETS, cores=2)
    return small


@pytest.fixture(scope="module")
def right(tmp_path_factory: pytest.TempPathFactory, sharded: Small) -> Small:
    """The changed pictures, made in an empty folder; not to be changed."""
    small = sharded.without_results(tmp_path_factory.mktemp("right") / "copy")
    change(small)
    small.run(*TARGETS, cores=2)
    return small


@pytest.mark.parametrize("number", range(CASES))
def test_after_a_kill_among_shards_only_what_changed_is_decoded_and_the_records_are_right(
    number: int, sharded: Small, right: Small, tmp_path: Path
) -> None:
    def prepare(attempt: int) -> Small:
        small = sharded.copy(tmp_path / f"try{attempt}")
        change(small)
        return small

    rule = list(SHARDED)[number % len(SHARDED)]
    kind = 3 * number % len(SIGNALS)
    delay = random.Random(number).uniform(0, SECONDS)
    small, said = disturb(prepare, SHARDED[rule], kind, delay, *TARGETS)
    assert content(small) == content(right) != content(sharded)
    assert "built from nothing" not in said
    new = (right.results / "data" / "train.txt").read_text(encoding="utf-8").count("/new ")
    decoded = sum(map(int, re.findall(r"_lmdb: .* (\d+) to decode", said)))
    # What a killed job had decoded and not yet kept is decoded again.
    assert 0 < new <= decoded <= 2 * new, said
    assert not leftovers(small)
    assert not small.plan(*TARGETS)
