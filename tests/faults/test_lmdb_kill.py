"""Kills, flipped bytes and full disks while an LMDB is updated: the old or the new content stays."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from recaffe import mean
from recaffe.errors import MachineError
from recaffe.lmdb import read, shards, totals
from tests.lists import Item, Lists, contents
from tests.unit.test_shards import ITEMS
from tests.unit.test_shards import write as write_shards

KILLS = max(200, 20 * int(os.environ.get("RECAFFE_FAULT_RUNS", "10")))
Content = list[tuple[bytes, bytes]]


@pytest.fixture
def lists(tmp_path: Path) -> Lists:
    return Lists(tmp_path, width=64, height=64)


def variants(lists: Lists) -> dict[str, tuple[dict[str, Item], Content]]:
    """Lists that differ by less than makes an update build anew, with what they hold."""
    base = {f"{i}.png": Item(i, i % 3) for i in range(40)}
    changed = {**base, **{f"{i}.png": Item(100 + i, 1) for i in range(3)}}
    renamed = {k.replace("9.png", "neun.png"): v for k, v in base.items()}
    relabelled = {k: v._replace(label=5) if v.content % 10 == 2 else v for k, v in base.items()}
    grown = {**base, **{f"neu {i}.png": Item(200 + i) for i in range(6)}}
    shrunk = {k: v for k, v in base.items() if v.content < 32}
    repeated = {k: v._replace(times=2) if v.content < 5 else v for k, v in base.items()}
    few = {k: v for k, v in base.items() if v.content < 9}
    made = {}
    for name, items in locals().copy().items():
        if isinstance(items, dict) and name != "made":
            lists.lay(name, items)
            made[name] = items, lists.fresh(name)
    return made


class Aim:
    """When to kill: as often before the end of the work as after it, however fast the machine is now."""

    def __init__(self, rng: random.Random, seconds: float) -> None:
        self.rng, self.longest = rng, seconds

    def seconds(self) -> float:
        return self.rng.uniform(0, self.longest)

    def hit(self, early: bool) -> None:
        """Take less time after a kill that came late, more after one that came early."""
        self.longest *= 1.1 if early else 1 / 1.1


def kill_after(seconds: float, do: Callable[[], object]) -> None:
    """Do it in a process of its own and kill that; returns when it is gone."""
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            do()
            status = 0
        finally:
            os._exit(status)
    time.sleep(seconds)
    os.kill(pid, signal.SIGKILL)
    _, status = os.waitpid(pid, 0)
    assert os.WIFSIGNALED(status) or os.WEXITSTATUS(status) == 0, "it failed by itself"


def how_long(lists: Lists, name: str, items: dict[str, Item]) -> float:
    start = time.monotonic()
    lists.update(name, items)
    return time.monotonic() - start


def test_a_kill_during_an_update_leaves_old_or_new(lists: Lists) -> None:
    rng = random.Random(6)
    all_of = variants(lists)
    names = sorted(all_of)
    now = "base"
    lists.update(now, all_of[now][0])
    usual = max(how_long(lists, name, all_of[name][0]) for name in ("changed", "base"))
    # An update from few records to many decodes the many: it takes its own time.
    aims = {few: Aim(rng, usual) for few in (False, True)}
    left: Counter[str] = Counter()
    for _ in range(KILLS):
        name = rng.choice([n for n in names if n != now])
        if now == "few":
            name = "base"  # from few to many and back: free pages, and a copy without them
        items, new = all_of[name]
        old = all_of[now][1]
        aim = aims[now == "few"]
        kill_after(aim.seconds(), partial(lists.update, name, items))
        found = contents(lists.store)
        assert found in (old, new), f"{now} → {name} left neither"
        left["new" if found == new else "old"] += 1
        aim.hit(early=found == old)
        if found == new:
            now = name
        if rng.random() < 0.6:  # else the next kill falls upon what this one left
            now = rng.choice([name, now]) if now != "few" else "few"
            note = lists.update(now, all_of[now][0])
            assert contents(lists.out) == all_of[now][1]
            total, wanted = totals.kept(lists.store, note["sha256"]), mean.sums(lists.out)
            assert total and wanted and np.array_equal(total.total, wanted.total)
            assert [p.name for p in lists.out.iterdir()] == ["data.mdb"]
    assert min(left["old"], left["new"]) > KILLS / 20, left


def test_a_kill_during_a_build_leaves_nothing_that_counts(lists: Lists) -> None:
    rng = random.Random(7)
    items, whole = variants(lists)["base"]
    aim = Aim(rng, how_long(lists, "base", items))
    left: Counter[bool] = Counter()
    for _ in range(KILLS // 5):
        shutil.rmtree(lists.store.parent)
        there = False
        for _ in range(2):
            kill_after(aim.seconds(), partial(lists.update, "base", items))
            built, there = not there, (lists.store / "data.mdb").exists()
            assert not there or contents(lists.store) == whole
            if built:
                left[there] += 1
                aim.hit(early=not there)
        lists.update("base", items)
        assert contents(lists.out) == whole
        assert len(list(lists.store.iterdir())) == 4, "leftovers of a kill are removed"
    assert left[True] and left[False], left


@pytest.mark.parametrize("make", [shards.join, shards.merge])
def test_a_kill_while_shards_are_joined_leaves_all_or_nothing(lists: Lists, make: Any) -> None:
    rng = random.Random(9)
    lists.lay("all", ITEMS)
    parts = write_shards(lists, "all", 2)
    noted = [p.with_name(p.name.replace("_lmdb", ".txt")) for p in parts]
    do = partial(make, parts, noted, lists.out)
    began = time.monotonic()
    note = do()
    aim = Aim(rng, time.monotonic() - began)
    left: Counter[bool] = Counter()
    for _ in range(KILLS // 5):
        shutil.rmtree(lists.out)  # as Snakemake does
        kill_after(aim.seconds(), do)
        there = lists.out.exists()
        assert not there or read.describe(lists.out) == note
        left[there] += 1
        aim.hit(early=not there)
        assert do() == note
        assert not list(lists.folder.glob(".*.tmp")), "leftovers of a kill are removed"
    assert left[True] and left[False], left


def test_any_flipped_byte_is_mended_or_harmless(lists: Lists) -> None:
    rng = random.Random(8)
    all_of = variants(lists)
    for _ in range(KILLS // 2):
        lists.update("base", all_of["base"][0])
        lists.update("changed", all_of["changed"][0])  # so that there are free pages
        file = lists.store / rng.choice(("data.mdb", "data.mdb", "records.txt"))
        data = bytearray(file.read_bytes())
        # Half of them where the tree and its heads are, where a page's first bytes tell all.
        at = rng.randrange(len(data))
        if rng.random() < 0.5:
            at = at // 4096 * 4096 + rng.randrange(min(160, len(data) - at // 4096 * 4096))
        data[at] ^= 1 << rng.randrange(8)
        file.write_bytes(data)
        lists.update("base", all_of["base"][0])
        assert contents(lists.out) == all_of["base"][1], (file.name, at)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Callable[[int], Path]]:
    """A disk of so many KiB, in memory."""
    mounted = tmp_path / "disk"

    def make(kib: int) -> Path:
        mounted.mkdir(exist_ok=True)
        subprocess.run(["umount", mounted], check=False, capture_output=True)
        done = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"size={kib}k", "tmpfs", mounted],
            check=False,
            capture_output=True,
            text=True,
        )
        if done.returncode:
            pytest.skip(f"needs a user who may mount: {done.stderr}")
        return mounted

    yield make
    subprocess.run(["umount", mounted], check=False, capture_output=True)


def test_a_disk_of_any_size_fills_without_harm(
    tmp_path: Path, small_disk: Callable[[int], Path]
) -> None:
    lists = Lists(tmp_path, width=64, height=64)
    old = {f"{i}.png": Item(i) for i in range(60)}
    new = {**old, **{f"{i}.png": Item(100 + i) for i in range(5)}}
    new |= {f"neu {i}.png": Item(200 + i) for i in range(45)}
    wanted = {}
    for name, items in (("old", old), ("new", new)):
        lists.lay(name, items)
        wanted[name] = lists.fresh(name)
    said: Counter[str] = Counter()
    for kib in range(1500, 2500, 25):
        disk = small_disk(kib)
        lists.store, lists.out = disk / "lmdb" / "train", disk / "train_lmdb"
        lists.update("old", old)
        now = "old"
        for name, items in (("new", new), ("old", old), ("new", new)):
            try:
                lists.update(name, items)
                now = name
                said["enough"] += 1
            except MachineError as error:
                assert "No space left" in str(error)
                said["full"] += 1
            assert contents(lists.store) == wanted[now], f"{kib} KiB: {now} → {name}"
    assert min(said["enough"], said["full"]) > 10, said
