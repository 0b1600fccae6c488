"""Pictures that the tests make for themselves: textured, so that perceptual hashes tell them apart."""

from __future__ import annotations

import signal
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import recaffe  # noqa: F401 - before any test imports OpenCV, whose limit it sets

# A shell's background job ignores Ctrl-C, and so would all programs that the tests start and stop.
signal.signal(signal.SIGINT, signal.default_int_handler)


def texture(seed: int, hue: int = 0, size: tuple[int, int] = (40, 32)) -> np.ndarray:
    """uint8 H×W×3 noise of low frequency, tinted by class."""
    rng = np.random.default_rng(seed)
    low = rng.integers(0, 200, (8, 8, 3), dtype=np.uint8)
    image = np.asarray(Image.fromarray(low).resize(size, Image.Resampling.BICUBIC)).copy()
    image[:, :, hue % 3] = np.minimum(255, image[:, :, hue % 3].astype(int) + 120)
    return image


def save(array: np.ndarray, path: Path) -> Path:
    """Write a picture, its folder included."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path)
    return path


@pytest.fixture
def class_folders(tmp_path: Path) -> Path:
    """Three classes of 40 pictures, with blanks and letters beyond ASCII in their names."""
    root = tmp_path / "my pictures"
    for hue, name in enumerate(("rot", "grün Wald", "blau")):
        for i in range(40):
            save(texture(1000 * hue + i, hue), root / name / f"bild {i:02d} ü.png")
    return root
