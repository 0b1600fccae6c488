"""A picture's bytes as the image of its record. One definition for all who need it."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import cv2
import numpy as np

from recaffe.images.decode import Picture, decode
from recaffe.images.resize import resize, scaled_size

_PAGE = 4096
# Pixels a side that the scan's hash, of 64×64 means, wants: of fewer, two files of one picture look unlike.
_LEAST = 128


def picture_of(data: bytes, scan: Mapping[str, Any], lmdb: Mapping[str, Any]) -> Picture:
    """A picture as the scan and the records see it: with `fast` no larger than these need.

    `scan` and `lmdb` are the config's. Raises as `decode`.
    """
    side = partial(_needed, lmdb=lmdb) if lmdb.get("fast") else 0
    return decode(data, scan["background"], scan["max_pixels"], side)


def record_pixels(picture: Picture, lmdb: Mapping[str, Any]) -> np.ndarray:
    """What `picture_of` gave → the record's image: BGR H×W×3, or gray H×W, resized."""
    image = cv2.cvtColor(picture.bgr, cv2.COLOR_BGR2GRAY) if lmdb["gray"] else picture.bgr
    size = picture.width, picture.height
    fast = lmdb.get("fast", False)
    return resize(image, lmdb["width"], lmdb["height"], lmdb["mode"], size, antialias=fast)


def seen_with(lmdb: Mapping[str, Any]) -> dict[str, Any]:
    """What `picture_of` looks at of the config's `lmdb`: nothing, as before there was `fast`, without it."""
    return {"fast": {k: lmdb[k] for k in ("width", "height", "mode")}} if lmdb.get("fast") else {}


def shape(settings: dict[str, Any]) -> tuple[int, ...]:
    """The shape of `record_pixels`."""
    size = settings["height"], settings["width"]
    return size if settings["gray"] else (*size, 3)


def record_size(settings: dict[str, Any]) -> int:
    """Bytes of the pages of a raw record in an LMDB: header, data, and a share of the tree."""
    channels = 1 if settings["gray"] else 3
    data = settings["width"] * settings["height"] * channels + 512
    return (-(-data // _PAGE) + 1) * _PAGE


def _needed(width: int, height: int, lmdb: Mapping[str, Any]) -> tuple[int, int]:
    w, h = scaled_size(width, height, lmdb["width"], lmdb["height"], lmdb["mode"])
    return max(w, _LEAST), max(h, _LEAST)
