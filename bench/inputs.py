"""Pictures, lists and LMDBs that the benches read, made up once into a folder."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

SMALL, LARGE = (500, 375), (4000, 3000)
CLASSES = ("a", "b")


def pictures(folder: Path, count: int, size: tuple[int, int]) -> Path:
    """So many JPEGs of a size (width, height), smooth with grain as photographs are, in two classes."""
    rng = np.random.default_rng(0)
    width, height = size
    for i in range(count):
        path = folder / CLASSES[i % 2] / f"{i:06d}.jpg"
        if path.exists():
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        low = rng.integers(0, 255, (height // 8 + 1, width // 8 + 1, 3), dtype=np.uint8)
        image = cv2.resize(low, size, interpolation=cv2.INTER_CUBIC).astype(np.int16)
        image += rng.integers(-12, 13, image.shape, dtype=np.int16)
        image[: height // 4] += 60 * (i % 2)  # so that a net has something to learn
        cv2.imwrite(str(path), image.clip(0, 255).astype(np.uint8), [cv2.IMWRITE_JPEG_QUALITY, 90])
    return folder


def list_of(folder: Path, file: Path) -> Path:
    """Caffe's list of the folder's pictures: `path label` lines, in the order of names."""
    found = sorted(p for p in folder.rglob("*.jpg"))
    lines = [f"{p.relative_to(folder)} {CLASSES.index(p.parent.name)}\n" for p in found]
    file.write_text("".join(lines), encoding="utf-8")
    return file
