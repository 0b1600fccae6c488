"""Updates of LMDBs of any size, down to a record: the disk never holds two copies of them."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

from tests.disk import occupied, watched
from tests.faults.started import THOROUGH
from tests.lists import Item, Lists, contents

LMDBS = 300 if THOROUGH else 30
CONTENTS = 60


def changed(items: dict[str, Item], step: int, rng: random.Random) -> dict[str, Item]:
    """Some pictures replaced, added or removed: a few, or most."""
    kind = rng.choice(("replaced", "replaced", "added", "removed"))
    share = rng.choice((0.02, 0.1, 0.2, 0.3) if kind == "replaced" else (0.1, 0.3, 0.6, 0.9))
    some = rng.sample(sorted(items), max(1, int(share * len(items))))
    if kind == "removed":
        return {k: v for k, v in items.items() if k not in some} or items
    prefix = f"{step} " if kind == "added" else ""
    return items | {prefix + k: Item(rng.randrange(CONTENTS), rng.randrange(3)) for k in some}


# 115: one record becomes two.
@pytest.mark.parametrize("seed", sorted({*range(LMDBS), 115}))
def test_the_disk_never_holds_two_copies_of_an_lmdb_of_any_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    rng = random.Random(seed)
    monkeypatch.setattr(os, "fsync", lambda _: None)  # no power fails
    side, encoded = rng.choice((1, 16, 28, 37, 64, 90)), rng.choice(("none", "none", "png"))
    lists = Lists(tmp_path, width=side, height=side, encoded=encoded)
    largest = rng.choice((4, 12, 40, 120))
    items = {f"{i}.png": Item(rng.randrange(CONTENTS)) for i in range(rng.randint(1, largest))}
    for step in range(5):
        lists.lay(str(step), items)
        fresh = lists.fresh(str(step))
        file = tmp_path / f"fresh_{step}" / "data.mdb"
        before = occupied(lists) if step else 0
        with monkeypatch.context() as patch:
            seen = watched(lists, patch)
            lists.update(str(step), items)
        assert contents(lists.out) == fresh
        assert max(seen) < 2 * max(before, file.stat().st_blocks * 512), step
        assert (lists.store / "data.mdb").stat().st_size <= 2 * file.stat().st_size, step
        items = changed(items, step, rng)
