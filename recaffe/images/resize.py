"""The four ways to bring a picture to the size of a record.

`warp` is `convert_imageset --resize_*` (OpenCV, bilinear), byte for byte. The others are those of
NVIDIA DIGITS, with padding noise that is the same in every run. All of them can be antialiased, which
Caffe's and DIGITS' aren't.
"""

from __future__ import annotations

import cv2
import numpy as np

from recaffe.errors import DataError

cv2.setNumThreads(1)  # the pool of processes does the parallel work
_MOST_PIXELS = 100_000_000  # to scale a picture to, as many as one may have


def resize(
    image: np.ndarray,
    width: int,
    height: int,
    mode: str = "warp",
    size: tuple[int, int] | None = None,
    antialias: bool = False,
) -> np.ndarray:
    """A uint8 image, H×W or H×W×C, as `height`×`width`.

    warp: stretched. crop: scaled until both sides cover the size, centre cut out. fill: scaled
    until both sides fit, ends padded with noise. half_crop: scaled midway, one side cut, the other
    padded. `size` (width, height) is the picture's own, where `image` is it made smaller.

    Raises `DataError` for a picture so thin that it can't be scaled until both sides cover the size.
    """
    w, h = size or (image.shape[1], image.shape[0])
    stretch = _antialiased if antialias else _bilinear
    new_w, new_h = scaled_size(w, h, width, height, mode)
    if new_w * new_h > _MOST_PIXELS:
        raise DataError(
            f"{w}×{h} pixels are too thin for lmdb.mode {mode}: scaled to cover {width}×{height}, they would be "
            f"{new_w}×{new_h}. Cut or remove the picture, or set lmdb.mode to warp or fill"
        )
    scaled = stretch(image, new_w, new_h)
    return _pad(_centre(scaled, width, height), width, height)


def scaled_size(w: int, h: int, width: int, height: int, mode: str) -> tuple[int, int]:
    """Width and height to which a picture of w×h is scaled, before it is cut or padded to `width`×`height`."""
    rw, rh = w / width, h / height
    if mode == "warp" or rw == rh:
        return width, height
    if mode == "crop":
        ratio = min(rw, rh)
    elif mode == "fill":
        ratio = max(rw, rh)
    elif mode == "half_crop":
        ratio = (rw + rh) / 2
    else:
        raise ValueError(f"unknown resize mode {mode!r}")
    new_w, new_h = max(1, round(w / ratio)), max(1, round(h / ratio))
    # One side may come out exact; the other is padded evenly or cut in the middle.
    if new_w < width:
        new_w += (width - new_w) % 2
    if new_h < height:
        new_h += (height - new_h) % 2
    return new_w, new_h


def _antialiased(image: np.ndarray, width: int, height: int) -> np.ndarray:
    """Each pixel a mean along the sides that shrink, bilinear along those that grow.

    OpenCV is quick at means of 2×2 pixels alone: of the image's own, or of bilinear samples between
    them. Means of areas, where that doesn't do, take three times as long.
    """
    h, w = image.shape[:2]
    lw, lh = min(w, width), min(h, height)
    while w >= 2 * lw and h >= 2 * lh and w % 2 == h % 2 == 0:
        w, h = w // 2, h // 2
        image = _by_area(image, w, h)
    if lw < w <= 3 * lw and lh < h <= 3 * lh:
        image = _by_area(_bilinear(image, 2 * lw, 2 * lh), lw, lh)
    return _bilinear(_by_area(image, lw, lh), width, height)


def _by_area(image: np.ndarray, width: int, height: int) -> np.ndarray:
    return cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)


def _bilinear(image: np.ndarray, width: int, height: int) -> np.ndarray:
    # cv::resize copies when the size is the same, as ReadImageToCVMat does nothing then.
    return cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR)


def _centre(image: np.ndarray, width: int, height: int) -> np.ndarray:
    h, w = image.shape[:2]
    y, x = max(0, round((h - height) / 2)), max(0, round((w - width) / 2))
    return image[y : y + height, x : x + width]


def _pad(image: np.ndarray, width: int, height: int) -> np.ndarray:
    h, w = image.shape[:2]
    if (h, w) == (height, width):
        return image
    # Noise, as in DIGITS, so that the net can't learn the edge; seeded, so that runs agree.
    noise = np.random.Generator(np.random.PCG64([width, height, w, h]))
    out = noise.integers(0, 255, (height, width, *image.shape[2:]), dtype=np.uint8)
    y, x = (height - h) // 2, (width - w) // 2
    out[y : y + h, x : x + w] = image
    return out
