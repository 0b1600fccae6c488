"""kill -9, SIGTERM and SIGINT at random moments of every rule: the same command then ends as ever.

RECAFFE_FAULT_RUNS says how many runs, each of another rule or signal: 10, or 100 in `make faults-nightly`.
"""

from __future__ import annotations

import random
import re
from pathlib import Path

import pytest

from recaffe.config import ROOT
from tests.faults.started import (
    OPTIONAL,
    OUTPUTS,
    RUNS,
    SHARDED,
    SIGNALS,
    disturb,
    forget,
    leftovers,
)
from tests.workflow.faults.small import Small

SECONDS = 2.0  # that most rules take, imports included


def cases() -> list[tuple[str, int]]:
    """Rules and signals, each rule about as often; the same ones each time."""
    rng = random.Random(6)
    rules = [rule for rule in OUTPUTS for _ in range(1 + RUNS // len(OUTPUTS))]
    rng.shuffle(rules)
    kinds = [kind for _ in range(1 + RUNS // len(SIGNALS)) for kind in range(len(SIGNALS))]
    return list(zip(rules, kinds, strict=False))[:RUNS]


@pytest.mark.parametrize(("number", "rule", "kind"), [(i, *c) for i, c in enumerate(cases())])
def test_after_a_kill_the_same_command_ends_with_the_same_bytes(
    number: int, rule: str, kind: int, undisturbed: Small, tmp_path: Path
) -> None:
    def prepare(attempt: int) -> Small:
        small = undisturbed.copy(tmp_path / f"try{attempt}")
        forget(small, rule)
        return small

    delay = random.Random(number).uniform(0, SECONDS)
    small, _ = disturb(prepare, rule, kind, delay)
    assert small.artifacts() == undisturbed.artifacts()
    assert not leftovers(small)


def test_every_rule_that_works_offline_is_disturbed() -> None:
    text = "".join(p.read_text(encoding="utf-8") for p in (ROOT / "rules").glob("*.smk"))
    rules = set(re.findall(r"^ *(?:use rule \w+ as|rule) (\w+)(?: with)?:", text, re.MULTILINE))
    online = {"fetch_package", "unpack_pictures", "inventory", "convert_weights", "fetch_weights"}
    assert rules - online == OUTPUTS.keys() | SHARDED.keys() | OPTIONAL.keys()
