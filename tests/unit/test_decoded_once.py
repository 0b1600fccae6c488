"""A picture is decoded once: the scan leaves its record's image, and LMDBs are what they are without it."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from recaffe.images import decoded, inventory, scan
from recaffe.lmdb import update, write
from tests.conftest import save, texture

SHAPE: dict[str, Any] = {
    "width": 20,
    "height": 16,
    "mode": "crop",
    "gray": False,
    "encoded": "none",
}
SCAN: dict[str, Any] = {"background": "#ffffff", "max_pixels": 10**8, "max_rejects": 0.9}
N = 12


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for i in range(N):
        save(texture(i, size=(30, 40)), tmp_path / "p" / "ab"[i % 2] / f"{i}.png")
    (tmp_path / "p" / "a" / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\nno more")
    return tmp_path / "p"


@pytest.fixture(autouse=True)
def _own_files() -> Iterator[None]:
    """Files that are kept open belong to one test's folders."""
    yield
    for fd in decoded._read.values():
        os.close(fd)
    decoded._read.clear()


def scanned(root: Path, data: Path, lmdb: dict[str, Any] | None, threads: int = 1) -> None:
    data.mkdir(exist_ok=True)
    inventory.take({"path": str(root)}, data / "inventory.csv", data / "cache.csv")
    tables = data / "manifest.csv", data / "rejected.csv"
    scan.scan(data / "inventory.csv", *tables, SCAN, threads, lmdb)


def built(root: Path, data: Path, lmdb: dict[str, Any], threads: int = 1) -> dict[str, Any]:
    """An LMDB of all usable pictures, from nothing; what is in it."""
    rows = scan.read_manifest(data / "manifest.csv")
    (data / "list.txt").write_text("".join(f"{r['path']} {i % 3}\n" for i, r in enumerate(rows)))
    for name in ("out", "store"):
        shutil.rmtree(data / name, ignore_errors=True)
    return update.update(
        data / "list.txt", str(root), data / "out", data / "store", {"lmdb": lmdb, "scan": SCAN}, 1, threads,
        scan.contents(data / "manifest.csv"), kept=data / decoded.FOLDER,
    )  # fmt: skip


@pytest.fixture
def decodings(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """One for each picture that an LMDB decodes from now on."""
    seen: list[int] = []
    real = write.picture_of

    def counted(*args: Any) -> Any:
        seen.append(1)
        return real(*args)

    monkeypatch.setattr(write, "picture_of", counted)
    return seen


@pytest.mark.parametrize(
    "change", [{}, {"gray": True}, {"encoded": "png"}, {"mode": "warp"}, {"width": 1, "height": 1}]
)
def test_records_are_those_of_pictures_decoded_again(
    change: dict[str, Any], root: Path, tmp_path: Path, decodings: list[int]
) -> None:
    shape = {**SHAPE, **change}
    scanned(root, tmp_path / "twice", None)
    wanted = built(root, tmp_path / "twice", shape)
    assert len(decodings) == N
    decodings.clear()
    scanned(root, tmp_path / "once", shape)
    assert built(root, tmp_path / "once", shape) == wanted
    assert not decodings
    manifests = [(tmp_path / d / "manifest.csv").read_bytes() for d in ("twice", "once")]
    assert manifests[0] == manifests[1]


def test_several_processes_each_leave_their_part(
    root: Path, tmp_path: Path, decodings: list[int]
) -> None:
    scanned(root, tmp_path / "data", SHAPE, threads=3)
    note = built(root, tmp_path / "data", SHAPE)
    assert note["records"] == N and not decodings


def test_other_settings_of_records_decode_again(
    root: Path, tmp_path: Path, decodings: list[int]
) -> None:
    scanned(root, tmp_path / "data", SHAPE)
    assert built(root, tmp_path / "data", {**SHAPE, "width": 19})["shape"] == [3, 16, 19]
    assert len(decodings) == N


def test_an_image_that_was_damaged_is_decoded_again(
    root: Path, tmp_path: Path, decodings: list[int]
) -> None:
    scanned(root, tmp_path / "data", SHAPE)
    wanted = built(root, tmp_path / "data", SHAPE)
    (file,) = (tmp_path / "data" / decoded.FOLDER).glob("*.bin")
    data = bytearray(file.read_bytes())
    data[5] ^= 1
    file.write_bytes(data[: -20 * 16])  # the first one is wrong, the last one short
    assert built(root, tmp_path / "data", SHAPE) == wanted
    assert len(decodings) == 2


@pytest.mark.parametrize("text", ["", "no json\n", '{"recipe": 1}\nx\n', None])
def test_an_index_that_says_nothing_is_none(
    text: str | None, root: Path, tmp_path: Path, decodings: list[int]
) -> None:
    scanned(root, tmp_path / "data", SHAPE)
    index = tmp_path / "data" / decoded.FOLDER / decoded.INDEX
    if text is None:
        first, _, rest = index.read_text(encoding="utf-8").partition("\n")
        text = f"{first}\n{rest[:70]}"  # cut short
    index.write_text(text, encoding="utf-8")
    assert built(root, tmp_path / "data", SHAPE)["records"] == N
    assert len(decodings) == N


def test_what_is_new_comes_to_what_was_left(
    root: Path, tmp_path: Path, decodings: list[int]
) -> None:
    scanned(root, tmp_path / "data", SHAPE)
    save(texture(99, size=(30, 40)), root / "a" / "new.png")
    scanned(root, tmp_path / "data", SHAPE)
    assert built(root, tmp_path / "data", SHAPE)["records"] == N + 1 and not decodings


@pytest.mark.parametrize("failure", [errno.ENOSPC, 0])
def test_a_full_disk_costs_no_scan_and_keeps_nothing(
    failure: int, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, decodings: list[int]
) -> None:
    real, written = os.write, []

    def full(fd: int, data: Any) -> int:
        written.append(fd)
        if len(written) < 4:
            return real(fd, data)
        if failure:
            raise OSError(failure, "No space left on device")
        return real(fd, data[: len(data) // 2])  # the disk took a part

    monkeypatch.setattr(decoded.os, "write", full)
    scanned(root, tmp_path / "data", SHAPE)
    monkeypatch.undo()
    assert not (tmp_path / "data" / decoded.FOLDER).exists()
    assert len(written) == 4, "nothing more is written after the first failure"
    assert built(root, tmp_path / "data", SHAPE)["records"] == N


def test_nothing_is_left_where_the_disk_has_no_room_to_spare(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decoded, "free_space", lambda _: 3 * N * 8192)
    scanned(root, tmp_path / "data", SHAPE)
    assert not (tmp_path / "data" / decoded.FOLDER).exists()


def test_it_goes_once_each_lmdb_is_there(root: Path, tmp_path: Path) -> None:
    scanned(root, tmp_path / "data", SHAPE)
    folder, notes = tmp_path / "data" / decoded.FOLDER, [tmp_path / "a.json", tmp_path / "b.json"]
    notes[0].write_text("{}")
    decoded.discard_if_there(folder, notes)
    assert folder.exists()
    notes[1].write_text("{}")
    decoded.discard_if_there(folder, notes)
    assert not folder.exists()
