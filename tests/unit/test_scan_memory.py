"""A scan decodes only what it has not seen, and says the same as one that decodes everything."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from recaffe.images import inventory, scan, scanned
from tests.conftest import save, texture

SETTINGS: dict[str, Any] = {"background": "#ffffff", "max_pixels": 10**8, "max_rejects": 0.9}
TABLES = ("manifest.csv", "rejected.csv")


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    for i in range(8):
        save(texture(i), tmp_path / "p" / "ab"[i % 2] / f"{i}.png")
    (tmp_path / "p" / "a" / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\nno more")
    return tmp_path / "p"


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """The contents that are decoded from now on."""
    seen: list[bytes] = []
    real = scan.picture_of

    def counted(data: bytes, *args: Any) -> Any:
        seen.append(data)
        return real(data, *args)

    monkeypatch.setattr(scan, "picture_of", counted)
    return seen


def look(pictures: Path, folder: Path, **settings: Any) -> list[bytes]:
    """Scan into the folder; the bytes of the two tables."""
    folder.mkdir(exist_ok=True)
    listed = folder / "inventory.csv"
    inventory.take({"path": str(pictures)}, listed, folder / "cache.csv")
    manifest, rejected = (folder / name for name in TABLES)
    scan.scan(listed, manifest, rejected, {**SETTINGS, **settings}, 1)
    return [manifest.read_bytes(), rejected.read_bytes()]


def test_only_new_contents_are_decoded(
    pictures: Path, tmp_path: Path, decoded: list[bytes]
) -> None:
    look(pictures, tmp_path / "data")
    assert len(decoded) == 9
    decoded.clear()
    save(texture(100), pictures / "a" / "0.png")  # another picture under the same name
    save(texture(101), pictures / "a" / "new.png")
    (pictures / "b" / "1.png").rename(pictures / "a" / "moved.png")
    (pictures / "b" / "3.png").unlink()
    (pictures / "b" / "also_broken.png").write_bytes(b"GIF89a")
    after = look(pictures, tmp_path / "data")
    new = [pictures / "a" / "0.png", pictures / "a" / "new.png", pictures / "b" / "also_broken.png"]
    assert sorted(decoded) == sorted(p.read_bytes() for p in new)
    assert after == look(pictures, tmp_path / "from_nothing")
    memories = [tmp_path / f / scanned.NAME for f in ("data", "from_nothing")]
    assert memories[0].read_bytes() == memories[1].read_bytes()


@pytest.mark.parametrize("settings", [{"background": "#000000"}, {"max_pixels": 10**7}])
def test_other_settings_look_anew(
    settings: dict[str, Any], pictures: Path, tmp_path: Path, decoded: list[bytes]
) -> None:
    look(pictures, tmp_path / "data")
    decoded.clear()
    look(pictures, tmp_path / "data", **settings)
    assert len(decoded) == 9


@pytest.mark.parametrize("at", [0, 40, -2])
def test_a_damaged_memory_is_none(
    at: int, pictures: Path, tmp_path: Path, decoded: list[bytes]
) -> None:
    before = look(pictures, tmp_path / "data")
    memory = tmp_path / "data" / scanned.NAME
    data = bytearray(memory.read_bytes())
    data[at] ^= 1
    memory.write_bytes(data)
    decoded.clear()
    assert look(pictures, tmp_path / "data") == before
    assert len(decoded) == 9


def test_a_memory_of_other_columns_is_none(
    pictures: Path, tmp_path: Path, decoded: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as earlier:
        earlier.setattr(scanned, "COLUMNS", scanned.COLUMNS[::-1])
        look(pictures, tmp_path / "data")
    decoded.clear()
    assert look(pictures, tmp_path / "data") == look(pictures, tmp_path / "from_nothing")
    assert len(decoded) == 18


def test_a_stopped_scan_goes_on_where_it_was(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = look(pictures, tmp_path / "whole")
    real, count = scan.picture_of, 0

    def stopped(*args: Any) -> Any:
        nonlocal count
        count += 1
        if count == 5:
            raise KeyboardInterrupt
        return real(*args)

    monkeypatch.setattr(scan, "picture_of", stopped)
    with pytest.raises(KeyboardInterrupt):
        look(pictures, tmp_path / "data")
    assert look(pictures, tmp_path / "data") == whole
    assert count == 5 + (9 - 4), "four were seen before the stop"


def test_a_file_that_cannot_be_read_is_looked_at_again(pictures: Path, tmp_path: Path) -> None:
    (pictures / "a" / "link.png").symlink_to("nowhere")
    first = look(pictures, tmp_path / "data")
    assert b"symbolic link to nowhere" in first[1]
    shutil.copy(pictures / "a" / "0.png", pictures / "a" / "nowhere")
    assert b"symbolic link" not in look(pictures, tmp_path / "data")[1]
