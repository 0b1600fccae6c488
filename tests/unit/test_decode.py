"""One picture's bytes, however saved, become upright 8-bit RGB, or a reason why not."""

from __future__ import annotations

import io
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from recaffe.errors import MachineError
from recaffe.images.decode import RejectError, decode, read
from tests.conftest import texture


def encode(image: Image.Image, kind: str, **options: object) -> bytes:
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def pixels_of(image: Image.Image) -> np.ndarray:
    """What Pillow makes of it, as BGR."""
    return np.asarray(image.convert("RGB"))[:, :, ::-1]


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied_as_opencv_does(orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encode(Image.fromarray(texture(1)), "JPEG", exif=exif, quality=95)
    found = decode(data)
    theirs = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    assert found.orientation == orientation
    assert found.bgr.shape == theirs.shape
    assert (found.bgr == theirs).all()


def test_gray_has_three_equal_channels() -> None:
    gray = texture(2)[:, :, 0]
    assert (decode(encode(Image.fromarray(gray), "PNG")).bgr == gray[:, :, None]).all()


def test_palette_shows_its_colours() -> None:
    image = Image.fromarray(texture(3)).quantize(16)
    assert (decode(encode(image, "PNG")).bgr == pixels_of(image)).all()


def test_transparency_shows_the_background() -> None:
    rgba = np.zeros((4, 4, 4), np.uint8)
    rgba[:2, :, 0], rgba[:2, :, 3] = 200, 255
    bgr = decode(encode(Image.fromarray(rgba), "PNG"), background="#0000ff").bgr
    assert (bgr[:2] == (0, 0, 200)).all()
    assert (bgr[2:] == (255, 0, 0)).all()


def test_transparent_palette_shows_the_background() -> None:
    image = Image.new("P", (4, 4), 0)
    image.putpalette([0, 0, 0, 255, 255, 255])
    data = encode(image, "PNG", transparency=0)
    assert (decode(data, background="#102030").bgr == (0x30, 0x20, 0x10)).all()


def test_cmyk_becomes_bgr() -> None:
    image = Image.fromarray(texture(4)).convert("CMYK")
    found = decode(encode(image, "TIFF"))
    assert found.mode == "CMYK"
    assert (found.bgr == pixels_of(image)).all()


def test_sixteen_bits_keep_the_upper_eight_as_opencv_does() -> None:
    deep = np.random.default_rng(0).integers(0, 65536, (8, 9), dtype=np.uint16)
    data = encode(Image.fromarray(deep), "PNG")
    theirs = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    assert np.abs(decode(data).bgr.astype(int) - theirs).max() <= 1


def test_animation_gives_its_first_frame() -> None:
    frames = [Image.fromarray(texture(i)) for i in range(3)]
    found = decode(encode(frames[0], "GIF", save_all=True, append_images=frames[1:]))
    assert found.frames == 3
    first = decode(encode(frames[0], "GIF"))
    assert (found.bgr == first.bgr).all()


def test_progressive_jpeg_equals_baseline_within_rounding() -> None:
    image = Image.fromarray(texture(5))
    a = decode(encode(image, "JPEG", progressive=True)).bgr.astype(int)
    assert np.abs(a - decode(encode(image, "JPEG")).bgr).max() <= 1


@pytest.mark.parametrize("share", [0.2, 0.5, 0.9])
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF"])
def test_truncated_file_is_rejected(kind: str, share: float) -> None:
    data = encode(Image.fromarray(texture(6, size=(300, 200))), kind)
    with pytest.raises(RejectError):
        decode(data[: int(share * len(data))])


def test_bomb_is_rejected_before_it_is_decoded() -> None:
    data = encode(Image.new("1", (5000, 5000)), "PNG")
    with pytest.raises(RejectError, match="max_pixels"):
        decode(data, max_pixels=24_999_999)
    assert decode(data, max_pixels=25_000_000).bgr.shape == (5000, 5000, 3)


def test_text_is_no_picture() -> None:
    with pytest.raises(RejectError, match="not a picture"):
        decode(b"<html>not found</html>")


def test_each_unreadable_file_has_its_own_reason(tmp_path: Path) -> None:
    (tmp_path / "empty.jpg").touch()
    (tmp_path / "folder.jpg").mkdir()
    (tmp_path / "dangling.jpg").symlink_to(tmp_path / "nowhere")
    for name, reason in (
        ("empty.jpg", "empty"),
        ("folder.jpg", "folder"),
        ("dangling.jpg", "link"),
        ("missing.jpg", "no such file"),
    ):
        with pytest.raises(RejectError, match=reason):
            read(tmp_path / name)


def test_a_lack_of_memory_rejects_no_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_room(self: Image.Image) -> None:
        raise MemoryError

    data = encode(Image.fromarray(texture(1)), "PNG")
    monkeypatch.setattr("PIL.PngImagePlugin.PngImageFile.load", no_room)
    with pytest.raises(RejectError):  # there is room for what it says that it is
        decode(data)
    monkeypatch.setattr("recaffe.images.decode._BYTES_A_PIXEL", 1 << 40)
    with pytest.raises(MachineError, match="Not enough memory for a picture of 40×32 pixels"):
        decode(data)
