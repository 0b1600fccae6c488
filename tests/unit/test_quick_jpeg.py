"""JPEGs straight from libjpeg-turbo: the pixels that Pillow gives, and Pillow's word on what is odd."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps
from PIL.JpegImagePlugin import JpegImageFile

from recaffe.images import decode as module
from recaffe.images.decode import RejectError, decode
from tests.conftest import texture

_SAVED: dict[str, st.SearchStrategy[Any]] = {
    "quality": st.integers(1, 100),
    "subsampling": st.sampled_from([0, 1, 2]),
    "progressive": st.booleans(),
    "optimize": st.booleans(),
    "restart_marker_rows": st.integers(0, 2),
    "keep_rgb": st.booleans(),
}
_SIZES = st.tuples(st.integers(1, 90), st.integers(1, 90))


def jpeg(size: tuple[int, int], mode: str = "RGB", turn: int = 1, **options: Any) -> bytes:
    exif, out = Image.Exif(), io.BytesIO()
    exif[0x0112] = turn
    image = Image.fromarray(texture(1, size=size)).convert(mode)
    if options.get("keep_rgb"):  # no colour differences, so none to subsample
        options |= {"subsampling": 0}
    image.save(out, "JPEG", exif=exif, **options)
    return out.getvalue()


def by_pillow(data: bytes, side: int = 0) -> np.ndarray:
    """Upright BGR."""
    image: Image.Image = Image.open(io.BytesIO(data))
    box = image.draft(None, (side, side)) if side else None
    image.load()
    if box:
        image = image.crop((0, 0, round(box[1][2]), round(box[1][3])))
    return np.asarray(ImageOps.exif_transpose(image).convert("RGB"))[:, :, ::-1]


def outcome(data: bytes) -> bytes | str:
    """Pixels, or why there are none."""
    try:
        return decode(data).bgr.tobytes()
    except RejectError as error:
        return str(error)


@settings(max_examples=150, deadline=None)
@given(_SIZES, st.sampled_from(["RGB", "L"]), st.integers(1, 8), st.fixed_dictionaries(_SAVED))
def test_pixels_are_those_of_pillow(
    size: tuple[int, int], mode: str, turn: int, options: dict[str, Any]
) -> None:
    data = jpeg(size, mode, turn, **options)
    assert np.array_equal(decode(data).bgr, by_pillow(data))


@settings(max_examples=80, deadline=None)
@given(
    st.tuples(st.integers(8, 700), st.integers(8, 700)),
    st.integers(8, 200),
    st.integers(1, 8),
    st.fixed_dictionaries(_SAVED),
)
def test_pixels_of_a_smaller_one_are_those_of_pillow(
    size: tuple[int, int], side: int, turn: int, options: dict[str, Any]
) -> None:
    data = jpeg(size, "RGB", turn, **options)
    assert np.array_equal(decode(data, side=side).bgr, by_pillow(data, side))


@pytest.mark.parametrize(("mode", "quick"), [("RGB", True), ("L", True), ("CMYK", False)])
def test_usual_ones_need_no_pillow_for_their_pixels(
    mode: str, quick: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, loads = jpeg((40, 30), mode), []
    load = JpegImageFile.load
    monkeypatch.setattr(JpegImageFile, "load", lambda self: loads.append(1) or load(self))
    decode(data)
    assert bool(loads) != quick


@settings(max_examples=150, deadline=None)
@given(
    st.booleans(),
    st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), max_size=3),
    st.floats(0, 1),
)
def test_a_damaged_one_is_what_pillow_makes_of_it(
    progressive: bool, changes: list[tuple[float, int]], end: float
) -> None:
    data = bytearray(jpeg((120, 90), progressive=progressive))
    for place, value in changes:
        data[int(place * (len(data) - 1))] = value
    damaged = bytes(data[: len(data) - int(end * 50)])
    found = outcome(damaged)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_quick", lambda *_: None)
        assert found == outcome(damaged)


def test_a_header_that_lies_about_the_size_is_what_pillow_makes_of_it() -> None:
    """Two frame headers: Pillow believes the last."""
    data = jpeg((120, 90))
    at = data.index(b"\xff\xc0")
    length = 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    frame = bytearray(data[at : at + length])
    for sides in ((10, 10), (4000, 3000)):
        frame[5:7], frame[7:9] = (n.to_bytes(2, "big") for n in sides)
        for odd in (
            data[:at] + frame + data[at:],
            data[: at + length] + frame + data[at + length :],
        ):
            found = outcome(odd)
            assert isinstance(found, str) or len(found) in (120 * 90 * 3, sides[0] * sides[1] * 3)
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(module, "_quick", lambda *_: None)
                assert found == outcome(odd)
