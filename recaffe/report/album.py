"""The report's pictures as data URIs: small, and each in the page once, however often it is shown."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from markupsafe import Markup

from recaffe.images.decode import RejectError, decode, read

THUMB = 112  # pixels, the longer side
_QUALITY = 82


class Album:
    """Thumbnails of the pictures below `root`, read as the scan reads them.

    `scan` is the config's section. A picture that `show` has put into the page gets a number by which
    the page's script shows it again; those that are only `kept` for the script come out of `rest`.
    """

    def __init__(self, root: Path, scan: dict[str, Any]) -> None:
        self._root, self._scan = root, scan
        self._numbers: dict[str, int] = {}
        self._code: dict[int, str] = {}
        self._shown: set[int] = set()

    def keep(self, path: str) -> int:
        """A picture's number; it is read at the first call for it."""
        if path not in self._numbers:
            number = self._numbers[path] = len(self._numbers)
            self._code[number] = thumbnail(self._root / path, self._scan)
        return self._numbers[path]

    def show(self, path: str) -> Markup:
        """The picture's element, with its path as text for those who can't see it."""
        number = self.keep(path)
        if not self._code[number]:
            return Markup('<span class="gone">no longer readable</span>')
        if number in self._shown:
            return Markup('<img data-same="{}" alt="{}" title="{}">').format(number, path, path)
        self._shown.add(number)
        return Markup('<img id="picture-{}" src="{}" alt="{}" title="{}" decoding="async">').format(
            number, self._code[number], path, path
        )

    def rest(self) -> dict[int, str]:
        """Data URIs of the pictures that were kept and not shown, by number; "" if unreadable."""
        return {n: code for n, code in self._code.items() if n not in self._shown}


def thumbnail(path: Path, scan: dict[str, Any]) -> str:
    """A picture as a small JPEG data URI; empty if it can't be read any more."""
    try:
        bgr = decode(read(path), scan["background"], scan["max_pixels"], 2 * THUMB).bgr
    except RejectError:
        return ""
    return small(bgr)


def mean_picture(mean: np.ndarray) -> str:
    """A mean (float32 C×H×W, BGR or gray) as a small picture's data URI."""
    return small(np.clip(np.rint(mean), 0, 255).astype(np.uint8).transpose(1, 2, 0))


def small(bgr: np.ndarray, side: int = THUMB) -> str:
    """A picture (uint8 H×W×C, BGR or gray) as a JPEG data URI, its longer side `side` pixels."""
    scale = side / max(bgr.shape[:2])
    size = (max(1, round(bgr.shape[1] * scale)), max(1, round(bgr.shape[0] * scale)))
    shrunk = cv2.resize(bgr, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
    ok, code = cv2.imencode(".jpg", shrunk, [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])
    return f"data:image/jpeg;base64,{base64.b64encode(code.tobytes()).decode()}" if ok else ""
