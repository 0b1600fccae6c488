"""Files that were damaged, dates that jump, locks that are stale or gone: named or mended, never used."""

from __future__ import annotations

import os
import shutil
import signal
import time
from pathlib import Path

import pytest

from tests.conftest import save, texture
from tests.faults.started import PATIENCE, THOROUGH, forget, leftovers, started
from tests.faults.test_limits import ends_as_ever, failed
from tests.workflow import running
from tests.workflow.faults.small import Small


def flip(path: Path, place: int) -> None:
    """Another bit, the same size and date."""
    dates = path.stat()
    data = bytearray(path.read_bytes())
    data[place] ^= 1
    path.write_bytes(data)
    os.utime(path, ns=(dates.st_atime_ns, dates.st_mtime_ns))


def cut(path: Path, share: float = 0.7) -> None:
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])


@pytest.fixture
def small(undisturbed: Small, tmp_path: Path) -> Small:
    return undisturbed.copy(tmp_path / "copy")


@pytest.mark.parametrize("damage", ["model", "state", "note"] if THOROUGH else ["state"])
def test_a_corrupted_snapshot_is_passed_over_by_name_and_the_one_before_used(
    damage: str, small: Small, undisturbed: Small
) -> None:
    forget_model(small)
    notes = sorted(small.results.glob("first/snapshots/*/snap_iter_*.json"), key=iteration)
    assert len(notes) == 2
    suffix = {"model": ".caffemodel", "state": ".solverstate", "note": ".json"}[damage]
    flip(notes[1].with_suffix(suffix), 60)
    small.run(cores=2)
    assert f"snapshot {iteration(notes[1])} is passed over" in small.said
    assert f"Restoring previous solver status from {notes[0].with_suffix('.solverstate')}".replace(
        f"{small.folder}/", ""
    ) in (small.results / "first" / "train.log").read_text(encoding="utf-8")
    assert small.artifacts() == undisturbed.artifacts()


def test_a_truncated_pretrained_caffemodel_is_named_with_what_to_do(small: Small) -> None:
    forget(small, "scan")
    whole = (small.folder / "start.caffemodel").read_bytes()
    cut(small.folder / "start.caffemodel")
    failed(small, "start.caffemodel is no caffemodel", "fetch it again")
    (small.folder / "start.caffemodel").write_bytes(whole)
    small.run(cores=2)


def test_a_damaged_final_caffemodel_is_named_and_made_again_when_removed(
    small: Small, undisturbed: Small
) -> None:
    final = small.results / "first" / "final.caffemodel"
    flip(final, final.stat().st_size - 2)
    forget(small, "predict")
    failed(small, "first/final.caffemodel isn't what its training wrote", "Remove it")
    final.unlink()
    ends_as_ever(small, undisturbed)


def test_a_flipped_byte_in_a_records_pixels_is_found_before_training(
    small: Small, undisturbed: Small
) -> None:
    forget(small, "train")
    data = small.results / "data" / "train_lmdb" / "data.mdb"
    record = undisturbed.results / "data" / "train_lmdb"
    flip(data, within_a_record(record, data))
    failed(small, "train_lmdb has changed since it was written", "Remove")
    shutil.rmtree(data.parent)
    ends_as_ever(small, undisturbed)


def test_a_broken_page_of_the_test_lmdb_is_named_before_the_test(
    small: Small, undisturbed: Small
) -> None:
    forget(small, "predict")
    data = small.results / "data" / "test_lmdb" / "data.mdb"
    data.write_bytes(data.read_bytes()[:8192] + os.urandom(data.stat().st_size - 8192))
    failed(small, "test_lmdb", "Remove")
    shutil.rmtree(data.parent)
    ends_as_ever(small, undisturbed)


def test_lock_files_in_lmdbs_stale_or_gone_change_nothing(small: Small, undisturbed: Small) -> None:
    forget(small, "train")
    for split in ("train", "val", "test"):
        lock = small.results / "data" / f"{split}_lmdb" / "lock.mdb"
        lock.unlink(missing_ok=True)
        if split != "val":
            lock.write_bytes(b"\xff" * 8192)
    small.run(cores=2)
    assert small.artifacts() == undisturbed.artifacts()


def test_locks_of_a_killed_snakemake_go_but_those_of_a_living_one_hold(
    begun: Small, undisturbed: Small, tmp_path: Path
) -> None:
    small = begun.copy(tmp_path / "copy")
    with started(small) as first:
        assert first.wait_for("scan") is not None
        os.kill(first.process.pid, signal.SIGSTOP)  # or it might end before the second begins
        second = running.snakemake(small.file, root=small.root)
        assert second.returncode != 0
        assert "Directory cannot be locked" in second.stdout + second.stderr
        os.killpg(first.process.pid, signal.SIGKILL)
        first.process.wait(PATIENCE)
    assert list((small.folder / ".snakemake" / "locks").glob("*.lock"))
    ends_as_ever(small, undisturbed)


@pytest.mark.parametrize("stage", ["split", "train"] if THOROUGH else ["split"])
def test_a_picture_changed_under_a_clock_that_jumped_back_is_seen(
    stage: str, small: Small, tmp_path: Path
) -> None:
    # A clock that is set back by a day is as good as files that are of tomorrow.
    for path in (*small.results.rglob("*"), *(small.folder / "pics").rglob("*")):
        dates = path.lstat()
        os.utime(
            path, ns=(dates.st_atime_ns, dates.st_mtime_ns + 86400 * 10**9), follow_symlinks=False
        )
    picture = small.folder / "pics" / "a" / "03.png"
    save(texture(77, 1, (24, 24)), picture)
    assert picture.stat().st_mtime < time.time() + 60
    # And stopped halfway, so that what was made since is older than what comes after it.
    with started(small) as run:
        job = run.wait_for(stage)
        assert job is not None, run.said
        run.send(signal.SIGKILL, "all", job)
        run.process.wait(PATIENCE)
    assert "The clock was set back" in run.said
    small.run(cores=2)
    fresh = small.without_results(tmp_path / "fresh")
    fresh.run(cores=2)
    assert small.artifacts() == fresh.artifacts()
    assert not leftovers(small)


def forget_model(small: Small) -> None:
    """What training and the rest made, but its snapshots."""
    kept = small.folder / "kept"
    shutil.move(small.results / "first" / "snapshots", kept)
    (small.results / "first" / "snapshots").mkdir()
    forget(small, "train")
    shutil.move(kept, small.results / "first" / "snapshots")


def iteration(note: Path) -> int:
    return int(note.stem.rpartition("_")[2])


def within_a_record(lmdb: Path, data: Path) -> int:
    """The place of a pixel in the LMDB's file."""
    from recaffe.lmdb.read import open_lmdb

    with open_lmdb(lmdb) as env, env.begin() as txn, txn.cursor() as cursor:
        cursor.first()
        value = bytes(cursor.value())
    return data.read_bytes().index(value) + len(value) // 2
