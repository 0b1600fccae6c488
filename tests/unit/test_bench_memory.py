"""The bench of memory sees what a process and its workers hold, each page once."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from bench import memory
from bench.measure import python
from recaffe.files import sha256
from recaffe.images.scan import contents
from recaffe.lmdb.entries import read_list

MIB = 1 << 20
HOLDING = f"""
import os, sys
shared = b"x" * {48 * MIB}
ready, tell = os.pipe()
if not os.fork():
    own = b"y" * {24 * MIB}
    os.write(tell, b".")
else:
    os.read(ready, 1)
    print("ready", flush=True)
sys.stdin.read()
"""


def test_pages_that_a_worker_shares_count_once() -> None:
    peak = memory.Peak()
    with subprocess.Popen(
        python(HOLDING), stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout and process.stdout.readline()
        peak.see(process.pid)
    least = {"process": 48, "worker": 72, "total": 72, "workers": 1 / MIB}
    for name, size in least.items():
        assert size * MIB <= getattr(peak, name) < (size + 20) * MIB, name


def test_a_process_that_has_ended_holds_nothing() -> None:
    with subprocess.Popen(python("")) as process:
        process.wait()
    peak = memory.Peak()
    peak.see(process.pid)
    assert peak == memory.Peak()


def test_a_job_that_fails_ends_the_bench_with_what_it_said() -> None:
    with pytest.raises(RuntimeError, match="no such thing"):
        memory.of(python("raise SystemExit('no such thing')"))


def test_a_million_follows_from_the_last_two() -> None:
    assert memory.expected([(0, 50), (50_000, 1_000_000), (100_000, 6_000_000)]) == (
        100,
        96_000_000,
    )
    assert memory.expected([(10, 900), (20, 800)]) == (0, 800)


def test_each_picture_has_a_content_of_its_own_and_one_in_a_hundred_changes(tmp_path: Path) -> None:
    def known() -> list[str]:
        made = read_list(tmp_path / "train.txt", 0).with_digests(
            str(tmp_path / "pictures"), contents(tmp_path / "manifest.csv")
        )
        assert all(sha256(tmp_path / "pictures" / e.path) == e.picture for e in made)
        return [e.picture for e in made]

    memory.pictures(tmp_path, 200)
    before = known()
    assert len(set(before)) == 200
    memory.change(tmp_path)
    assert sum(a != b for a, b in zip(before, known(), strict=True)) == 2
