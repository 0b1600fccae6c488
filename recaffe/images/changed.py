"""Turned, scaled and recoloured pictures: a record before its crop is taken.

What is done to a picture follows from the seed, the batch and the picture's place in it, so neither
threads nor processes nor a resumed training change it.
"""

from __future__ import annotations

import math

import cv2
import numpy as np

from recaffe.augment import Augment
from recaffe.errors import DataError

# Luma of BGR (ITU-R BT.601).
_LUMA = np.array([0.114, 0.587, 0.299])


def change(record: np.ndarray, augment: Augment, rng: np.random.Generator) -> np.ndarray:
    """The record (uint8 C×H×W, C 1 or 3 in BGR order) as it is shown this time, of the same shape.

    Numbers are drawn in the order of the settings, those that are off included. So a setting that is
    changed leaves what the others do as it is.

    Raises `DataError` for records of floats.
    """
    if record.dtype != np.uint8:
        raise DataError(
            "augment changes pictures, and there are records of floats. Remove augment, or write the records "
            "as bytes."
        )
    angle, scale, brightness, contrast, saturation, hue = rng.uniform(-1, 1, 6)
    low, high = map(math.log, augment.scale)
    picture = np.ascontiguousarray(record.transpose(1, 2, 0))
    if augment.moves:
        picture = moved(
            picture, augment.rotate * angle, math.exp(low + (high - low) * (scale + 1) / 2)
        )
    if augment.recolours:
        factors = (
            1 + augment.brightness * brightness,
            1 + augment.contrast * contrast,
            1 + augment.saturation * saturation,
        )
        if factors != (1, 1, 1):
            picture = recoloured(picture, *factors)
        if augment.hue:
            picture = turned_hue(picture, augment.hue * hue)
    return picture.reshape(record.shape[1], record.shape[2], -1).transpose(2, 0, 1)


def moved(picture: np.ndarray, degrees: float, scale: float) -> np.ndarray:
    """The picture (H×W×C) turned counterclockwise around its centre and scaled; beyond its border it is
    mirrored. Bilinear."""
    h, w = picture.shape[:2]
    matrix = cv2.getRotationMatrix2D(((w - 1) / 2, (h - 1) / 2), degrees, scale)
    return cv2.warpAffine(
        picture, matrix, (w, h), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101
    )


def recoloured(
    picture: np.ndarray, brightness: float, contrast: float, saturation: float
) -> np.ndarray:
    """Brightness times all values, contrast times their distances from the picture's mean gray, saturation
    times those from a pixel's own gray, in this order and rounded once."""
    channels = picture.shape[2] if picture.ndim == 3 else 1
    luma = _LUMA if channels == 3 else np.ones(1)
    mean = brightness * float(cv2.mean(picture)[:channels] @ luma)
    gray = np.broadcast_to(luma, (channels, channels))
    mix = brightness * contrast * (saturation * np.eye(channels) + (1 - saturation) * gray)
    shift = np.full((channels, 1), (1 - contrast) * mean)
    return cv2.transform(picture, np.hstack([mix, shift]))


def turned_hue(bgr: np.ndarray, turns: float) -> np.ndarray:
    """The picture with each colour so many turns further on the circle of hues."""
    hsv = cv2.cvtColor(bgr, cv2.COLOR_BGR2HSV_FULL)
    hsv[:, :, 0] += np.uint8(round(turns * 256) % 256)  # of 256 steps, which wrap around
    return cv2.cvtColor(hsv, cv2.COLOR_HSV2BGR_FULL)
