"""One picture's bytes as 8-bit pixels, however it was saved."""

from __future__ import annotations

import io
import stat
import warnings
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import PIL
import simplejpeg
from PIL import Image, UnidentifiedImageError
from PIL.JpegImagePlugin import JpegImageFile

from recaffe.errors import MachineError

# The limit is ours (scan.max_pixels), checked before any pixel is decoded.
Image.MAX_IMAGE_PIXELS = None
# Not among them: EPS, for which Pillow starts Ghostscript; and containers such as ICO, whose pictures
# may be larger than the container says.
FORMATS = (
    "AVIF", "BMP", "DIB", "GIF", "JPEG", "JPEG2000", "PCX", "PNG", "PPM", "QOI", "SGI",
    "SUN", "TGA", "TIFF", "WEBP",
)  # fmt: skip
# Of what pixels follow from, besides this code: part of each recipe of what is kept between runs.
VERSIONS = {
    "opencv": cv2.__version__,
    "pillow": PIL.__version__,
    "simplejpeg": simplejpeg.__version__,
}
_ORIENTATION = 0x0112
# How each orientation is turned upright: transposed or not, then cv2.flip's code if it is flipped.
_UPRIGHT = {
    1: (False, None), 2: (False, 1), 3: (False, -1), 4: (False, 0),
    5: (True, None), 6: (True, 1), 7: (True, -1), 8: (True, 0),
}  # fmt: skip
_BYTES_A_PIXEL = 24  # at most, while it is brought to upright RGB: four or five images of 4 bytes


class RejectError(Exception):
    """The picture can't be used; the text is the reason that rejected.csv shows."""


class LargeError(RejectError):
    """The picture has more pixels than are allowed, `width`×`height`; none of them was decoded."""

    def __init__(self, width: int, height: int, allowed: int) -> None:
        super().__init__(width, height, allowed)
        self.width, self.height, self.allowed = width, height, allowed

    def __str__(self) -> str:
        return f"{self.width}×{self.height} pixels, over scan.max_pixels ({self.allowed})"


@dataclass(frozen=True)
class Picture:
    """Decoded pixels and what the file was.

    `bgr` is uint8, H×W×3, upright, in the order of OpenCV and of Caffe's records; `width` and `height`
    are its sides in the file, which it may be smaller than; `mode` is Pillow's name of the file's own
    pixel form.
    """

    bgr: np.ndarray
    width: int
    height: int
    format: str
    mode: str
    frames: int
    orientation: int


def read(path: Path | str) -> bytes:
    """The file's bytes; raises `RejectError` with the reason."""
    try:
        mode = Path(path).stat().st_mode
        if stat.S_ISDIR(mode):
            raise RejectError("is a folder")
        if not stat.S_ISREG(mode):  # also behind a link: to read it may never end
            raise RejectError("is a pipe, a device or a socket")
        data = Path(path).read_bytes()
    except FileNotFoundError:
        if Path(path).is_symlink():
            raise RejectError("symbolic link to nowhere") from None
        raise RejectError("no such file") from None
    except (OSError, ValueError) as error:
        raise RejectError(f"can't be read: {getattr(error, 'strerror', None) or error}") from None
    if not data:
        raise RejectError("empty file")
    return data


def decode(
    data: bytes,
    background: str = "#ffffff",
    max_pixels: int = 100_000_000,
    side: int | Callable[[int, int], tuple[int, int]] = 0,
) -> Picture:
    """Decode in full and bring to upright 8-bit BGR.

    EXIF orientation is applied; gray, palette and CMYK become BGR; transparency is laid over
    `background` (#rrggbb); 16-bit samples keep their upper 8 bits, as OpenCV's imread does; of an
    animation the first frame counts.

    With `side`, a JPEG may come by 2, 4 or 8 smaller, its sides no shorter than that; a function gives
    the least width and height for the upright ones of the file. The decoder then leaves out the upper
    frequencies of each block, but reads all of the file.

    Raises `RejectError` for anything that isn't a whole picture of at most `max_pixels` pixels, and
    `MachineError` where memory lacks for one.
    """
    with warnings.catch_warnings():
        # Pillow warns of odd metadata in pictures that it reads all the same.
        warnings.simplefilter("ignore")
        size = 1000, 1000  # until the picture says it
        try:
            image: Image.Image = Image.open(io.BytesIO(data), formats=FORMATS)
            kind, mode, frames = image.format or "?", image.mode, getattr(image, "n_frames", 1)
            if image.width * image.height > max_pixels:
                raise LargeError(image.width, image.height, max_pixels)
            size = image.size
            drafted = _draft(image, side) if side else None
            bgr = _quick(data, image)
            if bgr is None:
                image.load()
                bgr = cv2.cvtColor(np.asarray(_to_rgb(image, background)), cv2.COLOR_RGB2BGR)
            if drafted:
                bgr = bgr[: drafted.size[1], : drafted.size[0]]
            # After the loading, for Pillow turns a TIFF itself.
            orientation = image.getexif().get(_ORIENTATION, 1)
            orientation = int(orientation) if orientation in _UPRIGHT else 1
            bgr = _upright(bgr, orientation)
        except UnidentifiedImageError:
            raise RejectError("not a picture that can be recognised") from None
        except RejectError:
            raise
        except Exception as error:  # Pillow's decoders raise almost anything on a broken file
            _check_memory(*size)
            raise RejectError(
                f"broken or truncated: {str(error).splitlines()[0] if str(error) else type(error).__name__}"
            ) from None
    height, width = bgr.shape[:2]
    width, height = drafted.whole if drafted else (width, height)
    return Picture(bgr, width, height, kind, mode, int(frames), orientation)


def _quick(data: bytes, image: Image.Image) -> np.ndarray | None:
    """A JPEG's pixels as BGR, in the size that the image has been told to come in.

    By libjpeg-turbo straight into the array: 0.8 ms of a picture of 500×375 and 50 of 12 megapixels, where
    Pillow's pixels, which are the same, take 1.1 and 117 until they are an array. None where this isn't a
    JPEG as most are, or where the decoder finds anything odd in it: what to make of that, Pillow decides.
    """
    if not isinstance(image, JpegImageFile) or image.mode not in ("RGB", "L"):
        return None
    pixels = np.empty((image.height, image.width, 3), np.uint8)
    with suppress(ValueError, RuntimeError):  # also if the array is too small for it
        found = simplejpeg.decode_jpeg(
            data, "BGR", min_height=image.height, min_width=image.width, buffer=pixels
        )
        if found.shape == pixels.shape:
            return pixels
    return None


def _upright(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """Pixels of a file of that EXIF orientation, as they are to be seen."""
    transposed, flipped = _UPRIGHT[orientation]
    if transposed:
        pixels = cv2.transpose(pixels)
    return pixels if flipped is None else cv2.flip(pixels, flipped)


class _Drafted(NamedTuple):
    """Width and height of what is to be taken of a smaller picture, and of the upright picture in the file."""

    size: tuple[int, int]
    whole: tuple[int, int]


def _draft(
    image: Image.Image, side: int | Callable[[int, int], tuple[int, int]]
) -> _Drafted | None:
    """Let a picture that isn't loaded yet come smaller; None if it can't."""
    if not isinstance(image, JpegImageFile):
        return None
    turned, _ = _UPRIGHT.get(image.getexif().get(_ORIENTATION, 1), (False, None))
    size = image.size[::-1] if turned else image.size
    least = (side, side) if isinstance(side, int) else side(*size)
    found = image.draft(None, least[::-1] if turned else least)
    # A last column or row of which less than half is picture would stretch the rest.
    return _Drafted((round(found[1][2]), round(found[1][3])), size) if found else None


def _check_memory(width: int, height: int) -> None:
    """Raise `MachineError` unless there is memory for a picture of that size.

    What a decoder says for lack of memory must not reject a picture: another machine may hold it.
    """
    need = width * height * _BYTES_A_PIXEL
    try:
        np.empty(need, np.uint8)
    except MemoryError:
        raise MachineError(
            f"Not enough memory for a picture of {width}×{height} pixels: decoding it takes up to "
            f"{need / 2**20:,.0f} MiB. Give the job more, run with fewer --cores, or lower "
            "scan.max_pixels; then run the same command again."
        ) from None


def _to_rgb(image: Image.Image, background: str) -> Image.Image:
    if image.mode.startswith("I;16"):
        return Image.fromarray((np.asarray(image).astype(np.uint16) >> 8).astype(np.uint8)).convert(
            "RGB"
        )
    if image.mode == "I":
        values = np.asarray(image)
        if values.min() < 0 or values.max() > 65535:
            raise RejectError("32-bit integer pixels")
        # Pillow opens some 16-bit files in this mode.
        return Image.fromarray((values >> 8).astype(np.uint8)).convert("RGB")
    if image.mode == "F":
        raise RejectError("floating-point pixels")
    if "A" in image.mode or "a" in image.mode or "transparency" in image.info:
        layer = image.convert("RGBA")
        ground = Image.new("RGBA", layer.size, background)
        return Image.alpha_composite(ground, layer).convert("RGB")
    return image if image.mode == "RGB" else image.convert("RGB")
