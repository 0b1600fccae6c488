"""Digests that are remembered: right whatever was added, removed or changed, and read no more than needed."""

from __future__ import annotations

import hashlib
import os
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recaffe import digests

NAMES = st.lists(st.sampled_from("abcdefgh"), unique=True, max_size=8)


def counted(patch: pytest.MonkeyPatch) -> list[str]:
    """Paths of the files that are read from now on."""
    read: list[str] = []
    real = digests.sha256
    patch.setattr(digests, "sha256", lambda file: (read.append(file), real(file))[1])
    return read


@settings(max_examples=60, deadline=None)
@given(NAMES, NAMES, st.sets(st.sampled_from("abcdefgh")))
def test_only_what_is_new_or_changed_is_read(
    first: list[str], second: list[str], changed: set[str]
) -> None:
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        files = {name: Path(folder, name) for name in "abcdefgh"}
        for name, path in files.items():
            path.write_text(name)
        cache = Path(folder, "cache")
        list(digests.take([str(files[n]) for n in first], cache))
        for name in changed:
            files[name].write_text(name * 2)
        read = counted(patch)
        for known in (set(first) - changed, set(second)):
            read.clear()
            before = cache.stat().st_ino if cache.exists() else 0
            found = list(digests.take([str(files[n]) for n in second], cache))
            assert found == [
                (p.stat().st_size, hashlib.sha256(p.read_bytes()).hexdigest())
                for p in (files[n] for n in second)
            ]
            assert sorted(read) == sorted(str(files[n]) for n in second if n not in known)
        # The second time nothing was new, so the cache is the file that it was.
        assert not second or cache.stat().st_ino == before


def test_a_cache_in_the_files_order_is_never_held(tmp_path: Path) -> None:
    files = [str(tmp_path / f"{i:03d}") for i in range(100)]
    for file in files:
        Path(file).write_text(file)
    cache = tmp_path / "cache"
    list(digests.take(files, cache))
    known = digests._Known(digests._read(cache))
    for file in files:
        assert known.take(file) is not None
        assert not known._passed


@pytest.mark.parametrize("damage", [b"no,numbers,here,x\n", b"two,fields\n", b"\xff\x00\n"])
def test_a_damaged_cache_costs_reading_anew_and_is_mended(tmp_path: Path, damage: bytes) -> None:
    files = [str(tmp_path / name) for name in "abc"]
    for file in files:
        Path(file).write_text(file)
    cache = tmp_path / "cache"
    wanted = list(digests.take(files, cache))
    whole = cache.read_bytes()
    lines = whole.splitlines(keepends=True)
    cache.write_bytes(lines[0] + damage + lines[2])
    assert list(digests.take(files, cache)) == wanted
    assert cache.read_bytes() == whole


def test_of_a_file_that_is_no_longer_there_the_cache_keeps_nothing(tmp_path: Path) -> None:
    files = [str(tmp_path / name) for name in "abc"]
    for file in files:
        Path(file).write_text(file)
    cache = tmp_path / "cache"
    for left in (files, files[:2], files[1:2]):
        list(digests.take(left, cache))
        paths = [line.split(",")[0] for line in cache.read_text(encoding="utf-8").splitlines()]
        assert paths == [os.path.abspath(file) for file in left]
