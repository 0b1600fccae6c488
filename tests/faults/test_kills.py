"""kill -9, SIGTERM and SIGINT at random moments of every rule: the same command then ends as ever.

RECAFFE_FAULT_RUNS says how many runs, each of another rule or signal; 100 in the nightly form.
"""

from __future__ import annotations

import random
import re
import signal
import time
from pathlib import Path

import pytest

from recaffe.config import ROOT
from tests.faults.started import OUTPUTS, PATIENCE, RUNS, forget, leftovers, started
from tests.workflow.faults.small import Small

SIGNALS = (
    (signal.SIGKILL, "job"),
    (signal.SIGKILL, "snakemake"),
    (signal.SIGKILL, "all"),
    (signal.SIGTERM, "job"),
    (signal.SIGTERM, "snakemake"),
    (signal.SIGTERM, "all"),
    (signal.SIGINT, "all"),
)
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
    rng = random.Random(number)
    what, target = SIGNALS[kind]
    delay = rng.uniform(0, SECONDS)
    for attempt in range(8):
        small = undisturbed.copy(tmp_path / f"try{attempt}")
        forget(small, rule)
        with started(small) as run:
            job = run.wait_for(rule)
            assert job is not None, run.said
            time.sleep(delay)
            if run.job(rule) == job:
                run.send(what, target, job)
                run.process.wait(PATIENCE)
                small.run(cores=2)  # a job whose Snakemake was killed may still be ending
                break
        delay /= 2
    else:
        pytest.fail("the rule is over before it can be disturbed")
    assert small.artifacts() == undisturbed.artifacts()
    assert not leftovers(small)


def test_every_rule_that_works_offline_is_disturbed() -> None:
    text = "".join(p.read_text(encoding="utf-8") for p in (ROOT / "rules").glob("*.smk"))
    rules = set(re.findall(r"^ *(?:use rule \w+ as|rule) (\w+)(?: with)?:", text, re.MULTILINE))
    online = {"fetch_package", "unpack_pictures", "inventory", "convert_weights"}
    sharded = {"lmdb_shard", "join_lmdb", "mean_shard"}  # what `lmdb` and `mean` do, by many jobs
    assert rules - online - sharded == set(OUTPUTS)
