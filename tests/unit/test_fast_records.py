"""`lmdb.fast`: JPEGs come smaller from the decoder, pictures are averaged, and all else is as it was."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from recaffe.images import decoded, scan, scanned
from recaffe.images.decode import LargeError, Picture, RejectError, decode
from recaffe.images.record import picture_of, record_pixels, seen_with
from recaffe.images.resize import scaled_size
from recaffe.model import record_settings
from tests.conftest import save, texture
from tests.unit.test_decoded_once import SCAN, built
from tests.unit.test_decoded_once import scanned as scanned_into

EXACT: dict[str, Any] = {
    "width": 64, "height": 64, "mode": "warp", "gray": False, "encoded": "none",
}  # fmt: skip
FAST = {**EXACT, "fast": True}
MODES = ("warp", "crop", "fill", "half_crop")


@cache
def jpeg(size: tuple[int, int], mode: str = "RGB", turn: int = 1, **options: Any) -> bytes:
    """A smooth JPEG of that size (width, height), its EXIF orientation `turn`."""
    exif, out = Image.Exif(), io.BytesIO()
    exif[0x0112] = turn
    image = Image.fromarray(texture(1, size=size)).convert(mode)
    image.save(out, "JPEG", quality=92, exif=exif, **options)
    return out.getvalue()


def look(data: bytes, lmdb: dict[str, Any]) -> Picture:
    return picture_of(data, SCAN, lmdb)


def apart(a: np.ndarray, b: np.ndarray) -> float:
    """Mean absolute difference."""
    assert a.shape == b.shape
    return float(np.abs(a.astype(int) - b).mean())


@pytest.mark.parametrize(
    ("mode", "shape"),
    [("warp", (300, 400)), ("crop", (300, 400)), ("fill", (150, 200)), ("half_crop", (150, 200))],
)
def test_a_photograph_comes_as_small_as_its_record_allows(
    mode: str, shape: tuple[int, int]
) -> None:
    size = {"width": 160, "height": 160, "mode": mode}
    found = look(jpeg((1600, 1200)), FAST | size)
    assert found.bgr.shape == (*shape, 3)
    assert (found.width, found.height) == (1600, 1200)
    assert look(jpeg((1600, 1200)), EXACT | size).bgr.shape == (1200, 1600, 3)


@settings(max_examples=60, deadline=None)
@given(
    st.tuples(st.integers(1, 500), st.integers(1, 500)),
    st.tuples(st.integers(1, 200), st.integers(1, 200)),
    st.sampled_from(MODES),
    st.sampled_from([1, 3, 6]),
)
def test_nothing_is_enlarged_that_would_not_have_been(
    size: tuple[int, int], record: tuple[int, int], mode: str, turn: int
) -> None:
    lmdb = {**FAST, "width": record[0], "height": record[1], "mode": mode}
    found = look(jpeg(size, turn=turn), lmdb)
    upright = size[::-1] if turn == 6 else size
    assert (found.width, found.height) == upright
    wanted = scaled_size(*upright, *record, mode)
    height, width = found.bgr.shape[:2]
    for side, least, whole in zip((width, height), wanted, upright, strict=True):
        assert side == whole or side >= max(least, 128)
    assert record_pixels(found, lmdb).shape == (record[1], record[0], 3)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("size", [(1200, 800), (613, 1011), (299, 900)])
def test_a_record_is_nearly_that_of_all_pixels_averaged(mode: str, size: tuple[int, int]) -> None:
    data, lmdb = jpeg(size), {**FAST, "mode": mode}
    whole, small = decode(data), look(data, lmdb)
    assert small.bgr.size < whole.bgr.size / 3
    # A last block that is no whole one moves the others by a part of a pixel.
    assert apart(record_pixels(small, lmdb), record_pixels(whole, lmdb)) < 2.5


@pytest.mark.parametrize("turn", range(1, 9))
def test_a_turned_photograph_is_upright(turn: int) -> None:
    data, lmdb = jpeg((1283, 600), turn=turn), {**FAST, "width": 20, "height": 48}
    whole, small = decode(data), look(data, lmdb)
    assert small.orientation == turn
    assert (small.height, small.width) == whole.bgr.shape[:2]
    assert small.bgr.shape == ((321, 150, 3) if turn > 4 else (150, 321, 3))
    assert apart(record_pixels(small, lmdb), record_pixels(whole, lmdb)) < 2.5


@pytest.mark.parametrize("mode", ["L", "CMYK"])
@pytest.mark.parametrize("gray", [False, True])
def test_gray_and_cmyk_photographs(mode: str, gray: bool) -> None:
    data, lmdb = jpeg((1200, 800), mode), {**FAST, "gray": gray}
    small = look(data, lmdb)
    assert (small.mode, small.bgr.shape) == (mode, (200, 300, 3))
    assert apart(record_pixels(small, lmdb), record_pixels(decode(data), lmdb)) < 2.5


def test_a_phones_photograph_with_a_second_picture_in_it() -> None:
    first, second = (Image.open(io.BytesIO(jpeg(x, turn=6))) for x in ((1200, 800), (30, 20)))
    out = io.BytesIO()
    first.save(out, "MPO", save_all=True, append_images=[second], exif=first.getexif())
    data = out.getvalue()
    found = look(data, FAST)
    assert (found.format, found.frames, found.bgr.shape) == ("MPO", 2, (300, 200, 3))
    assert apart(record_pixels(found, FAST), record_pixels(decode(data), FAST)) < 2.5


@pytest.mark.parametrize("share", [0.3, 0.6, 0.9, 0.98])
@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
@pytest.mark.parametrize("progressive", [False, True])
def test_a_truncated_photograph_is_rejected(mode: str, share: float, progressive: bool) -> None:
    data = jpeg((1200, 1100), mode, progressive=progressive)
    assert look(data, FAST).bgr.shape == (138, 150, 3), "at an eighth"
    with pytest.raises(RejectError, match="truncated"):
        look(data[: int(share * len(data))], FAST)


def test_the_limit_of_pixels_is_that_of_the_file() -> None:
    with pytest.raises(LargeError, match="640×480"):
        picture_of(jpeg((640, 480)), {**SCAN, "max_pixels": 640 * 480 - 1}, FAST)


@pytest.mark.parametrize("size", [(300, 190), (150, 300), (450, 64), (450, 30), (111, 111)])
def test_fine_patterns_are_averaged_whatever_the_format(size: tuple[int, int]) -> None:
    stripes = np.zeros((size[1], size[0], 3), np.uint8)
    stripes[:, ::2] = 255
    out = io.BytesIO()
    Image.fromarray(stripes).save(out, "PNG")
    exact, fast = (record_pixels(look(out.getvalue(), x), x) for x in (EXACT, FAST))
    of_areas = cv2.resize(stripes, (64, min(64, size[1])), interpolation=cv2.INTER_AREA)
    assert exact.std() > 60, "where false ones come up otherwise"
    assert fast.std() < 1.2 * of_areas.std() + 1
    assert abs(fast.mean() - 127.5) < 2


@pytest.mark.parametrize("mode", MODES)
def test_a_picture_that_does_not_shrink_has_the_record_that_it_had(mode: str) -> None:
    for size in ((40, 32), (64, 64), (64, 48), (13, 60)):
        data = jpeg(size)
        records = [
            record_pixels(look(data, x), x) for x in (x | {"mode": mode} for x in (EXACT, FAST))
        ]
        assert (records[0] == records[1]).all()


# ---- the scan and the LMDB -----------------------------------------------------------------------


@pytest.fixture
def root(tmp_path: Path) -> Iterator[Path]:
    (tmp_path / "p" / "a").mkdir(parents=True)
    save(texture(3), tmp_path / "p" / "b" / "5.png")
    for i, size in enumerate([(600, 400), (400, 600), (20, 20), (563, 297)]):
        (tmp_path / "p" / "a" / f"{i}.jpg").write_bytes(jpeg(size, turn=1 + 5 * (i % 2)))
    Image.fromarray(texture(2, size=(300, 200))).save(tmp_path / "p" / "a" / "4.png")
    yield tmp_path / "p"
    for fd in decoded._read.values():
        os.close(fd)
    decoded._read.clear()


@pytest.mark.parametrize("change", [{}, {"gray": True}, {"mode": "fill", "encoded": "png"}])
def test_records_of_the_scans_images_are_those_of_pictures_decoded_again(
    change: dict[str, Any], root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lmdb = {**FAST, "width": 24, "height": 20, **change}
    scanned_into(root, tmp_path / "data", lmdb)
    decoded.discard(tmp_path / "data" / decoded.FOLDER)
    again = built(root, tmp_path / "data", lmdb)
    scanned_into(root, tmp_path / "kept", lmdb)
    monkeypatch.delattr("recaffe.lmdb.write.picture_of")  # nothing is decoded again
    assert built(root, tmp_path / "kept", lmdb) == again
    assert again["records"] == 6


def test_the_manifest_has_the_files_sizes_and_the_twins_of_what_was_decoded(
    root: Path, tmp_path: Path
) -> None:
    found = {}
    for name, lmdb in (("exact", EXACT), ("fast", {**FAST, "width": 24, "height": 20})):
        scanned_into(root, tmp_path / name, lmdb)
        found[name] = scan.read_manifest(tmp_path / name / "manifest.csv")
    of_file = ("path", "sha256", "format", "mode", "width", "height", "orientation")
    for exact, fast in zip(found["exact"], found["fast"], strict=True):
        assert [exact[key] for key in of_file] == [fast[key] for key in of_file]
        reduced = exact["path"] in ("a/0.jpg", "a/1.jpg", "a/3.jpg")
        assert (exact["pixels"] != fast["pixels"]) == reduced
        bits = bin(int(exact["phash"], 16) ^ int(fast["phash"], 16)).count("1")
        assert bits <= (20 if reduced else 0), "of 256; others differ in a half"


def test_what_was_seen_is_of_one_size_and_mode_of_fast_records_only() -> None:
    off = scanned.recipe(SCAN, {})
    assert scanned.recipe(SCAN, EXACT) == scanned.recipe(SCAN, {**EXACT, "fast": False}) == off
    fast = [FAST, {**FAST, "width": 20}, {**FAST, "height": 20}, {**FAST, "mode": "fill"}]
    recipes = [off, *(scanned.recipe(SCAN, lmdb) for lmdb in fast)]
    assert all(a != b for i, a in enumerate(recipes) for b in recipes[:i])
    assert scanned.recipe(SCAN, {**FAST, "gray": True}) == scanned.recipe(SCAN, FAST)


def test_off_is_left_out_of_what_results_follow_from() -> None:
    off = {**EXACT, "fast": False, "shards": 1}
    assert record_settings(off) == EXACT and record_settings(FAST) == FAST
    assert seen_with(off) == seen_with(EXACT) == {}
    kept = [decoded.recipe({"lmdb": x, "scan": SCAN}) for x in (EXACT, off, FAST)]
    assert kept[0] == kept[1] != kept[2]
