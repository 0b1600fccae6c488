"""An upright picture as the image of its record. One definition for all who need it."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np

from recaffe.images.resize import resize

_PAGE = 4096


def record_pixels(rgb: np.ndarray, settings: dict[str, Any]) -> np.ndarray:
    """Upright RGB → the record's image: BGR H×W×3, or gray H×W, resized.

    `settings` is the config's `lmdb`.
    """
    # Not by numpy's strides, which take seven times as long.
    image = cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY if settings["gray"] else cv2.COLOR_RGB2BGR)
    return resize(image, settings["width"], settings["height"], settings["mode"])


def shape(settings: dict[str, Any]) -> tuple[int, ...]:
    """The shape of `record_pixels`."""
    size = settings["height"], settings["width"]
    return size if settings["gray"] else (*size, 3)


def record_size(settings: dict[str, Any]) -> int:
    """Bytes of the pages of a raw record in an LMDB: header, data, and a share of the tree."""
    channels = 1 if settings["gray"] else 3
    data = settings["width"] * settings["height"] * channels + 512
    return (-(-data // _PAGE) + 1) * _PAGE
