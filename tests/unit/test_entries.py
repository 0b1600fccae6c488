"""A list's records stand in the order of their keys, know their pictures, and take little memory."""

from __future__ import annotations

import hashlib
import os
import tracemalloc
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recaffe.errors import DataError
from recaffe.images.decoded import Place
from recaffe.images.split import record_key
from recaffe.lmdb import entries
from recaffe.lmdb.entries import Entry, read_list

SEED = 3
NAMES = [f"a/bild {i} ü.png" for i in range(90)]
LINES = [(name, i % 5) for i, name in enumerate(NAMES)] + [(n, 7) for n in NAMES[:20] * 2]
# Their keys begin with the same 32 bits (seed 0).
ALIKE = ("19426.png", "60492.png")


@pytest.fixture
def listed(tmp_path: Path) -> Path:
    """A list in which some pictures stand three times, out of order."""
    text = "".join(f"{path} {label}\n" for path, label in reversed(LINES))
    (tmp_path / "list.txt").write_text(text, encoding="utf-8")
    return tmp_path / "list.txt"


@pytest.fixture(params=["", "all hashes equal"])
def _hashes(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing may depend on paths having different hashes."""
    if request.param:
        monkeypatch.setattr(entries, "hash", lambda _: 7, raising=False)


def in_key_order() -> list[Entry]:
    seen: Counter[str] = Counter()
    made = []
    for path, label in reversed(LINES):
        made.append(Entry(record_key(path, SEED, seen[path]), path, label))
        seen[path] += 1
    return sorted(made)


def sha(path: str) -> str:
    return hashlib.sha256(path.encode()).hexdigest()


@pytest.mark.usefixtures("_hashes")
def test_records_are_in_key_order_and_repetitions_have_keys_of_their_own(listed: Path) -> None:
    found = read_list(listed, SEED)
    assert list(found) == in_key_order()
    assert len({e.key for e in found}) == len(found) == len(LINES)


@pytest.mark.parametrize("first", ALIKE)
def test_keys_that_begin_alike_are_in_order_too(first: str, tmp_path: Path) -> None:
    lines = sorted(ALIKE, reverse=first != min(ALIKE))
    (tmp_path / "list.txt").write_text("".join(f"{name} 0\n" for name in lines))
    keys = [e.key for e in read_list(tmp_path / "list.txt", 0)]
    assert len({key[:8] for key in keys}) == 1
    assert [key[9:] for key in keys] == sorted(ALIKE)


def test_shards_follow_one_upon_the_other(listed: Path) -> None:
    parts = [list(read_list(listed, SEED, (i, 4))) for i in range(4)]
    assert all(parts)
    assert [e for part in parts for e in part] == in_key_order()


def test_entries_are_taken_by_number(listed: Path) -> None:
    found, wanted = read_list(listed, SEED), in_key_order()
    assert (found[4], found[-1], found[2:9:3]) == (wanted[4], wanted[-1], wanted[2:9:3])
    assert list(found.select([5, 0])) == [wanted[5], wanted[0]]
    with pytest.raises(IndexError):
        found[len(LINES)]


@pytest.mark.usefixtures("_hashes")
def test_each_entry_knows_its_picture_and_the_place_of_that_pictures_image(listed: Path) -> None:
    digests = {name: sha(name) for name in NAMES} | {NAMES[1]: sha(NAMES[0])}
    pictures = [(f"/r/./{name}", digest) for name, digest in digests.items()]
    pictures += [(f"/other/{name}", sha("other")) for name in NAMES]
    places = {
        sha(n): Place(f"/d/{i % 3}.bin", i << 33, 2**32 - 1 - i)
        for i, n in enumerate(NAMES)
        if i % 4
    }
    places |= {
        sha(NAMES[0]): Place("/d/1.bin", 5, 6),
        sha("none of these"): Place("/d/9.bin", 0, 0),
    }
    found = read_list(listed, SEED).with_digests(
        "/r", iter(pictures), ((bytes.fromhex(s), place) for s, place in places.items())
    )
    assert list(found) == [
        e._replace(picture=digests[e.path], place=places.get(digests[e.path]))
        for e in in_key_order()
    ]
    assert sum(e.place is not None for e in found) not in (0, len(found))


def test_a_picture_outside_the_manifest_is_named(listed: Path) -> None:
    pictures = [(f"/r/{name}", sha(name)) for name in NAMES[1:]]
    with pytest.raises(DataError, match=f"^/r/{NAMES[0]} stands in a list but not in the manifest"):
        read_list(listed, SEED).with_digests("/r", pictures)


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (b"a.png 0\n\nb.png\n", "line 3: 'b.png' is not `path label`"),
        (b"a.png -1\n", "line 1: 'a.png -1' is not `path label`"),
        (b" 0\n", "line 1: ' 0' is not `path label`"),
        (b"a.png 0\n\xff.png 0\n", r"is not UTF-8 \(.*\). Remove it and run again"),
    ],
)
def test_a_broken_line_is_named(data: bytes, told: str, tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_bytes(data)
    with pytest.raises(DataError, match=told):
        read_list(tmp_path / "list.txt", 0)


def test_a_record_takes_little_more_than_a_hundred_bytes_besides_its_path(tmp_path: Path) -> None:
    names = [f"some_class/picture_{i:07d}_of_a_camera.jpg" for i in range(4000)]
    (tmp_path / "list.txt").write_text("".join(f"{name} 3\n" for name in names))
    tracemalloc.start()
    try:
        found = read_list(tmp_path / "list.txt", 0).with_digests(
            "/r",
            ((f"/r/{name}", sha(name)) for name in names),
            ((bytes.fromhex(sha(name)), Place("/d", i, i)) for i, name in enumerate(names)),
        )
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert all(e.place for e in found)
    assert held / len(names) < len(names[0]) + 120


_PARTS = st.lists(st.sampled_from(["a", "b.c", ".", "..", "", ".h", "x y", "é"]), max_size=4)


@given(_PARTS, _PARTS, st.booleans(), st.booleans())
def test_a_paths_quick_normal_form_is_the_librarys(
    root: list[str], path: list[str], from_top: bool, whole: bool
) -> None:
    a, b = "/" * from_top + "/".join(root), "/" * whole + "/".join(path)
    assert entries._normal(a, b) == os.path.normpath(os.path.join(a, b))  # noqa: PTH118
