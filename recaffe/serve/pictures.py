"""What is sent, as records; what is sent back, as a picture in a text."""

from __future__ import annotations

import base64
from typing import Any

import cv2
import numpy as np

from recaffe.engines.torch import cam
from recaffe.errors import MachineError
from recaffe.images.decode import LargeError, RejectError
from recaffe.model.output import printable
from recaffe.model.predict import record_of_bytes
from recaffe.serve.worker import Heat

_NAME = 200  # characters of a file's name that are said again
_SIDE = 320  # pixels at least, so that the map of a small net can be looked at


class NoPictureError(Exception):
    """The text says why; `status` is that of a request with nothing else in it."""

    def __init__(self, reason: str, status: int) -> None:
        super().__init__(reason)
        self.status = status


def record(data: bytes, rules: dict[str, Any]) -> np.ndarray:
    """A file's content as the model's record; raises `NoPictureError`."""
    if not data:
        raise NoPictureError("empty file", 422)
    try:
        return record_of_bytes(data, rules)
    except LargeError as error:
        raise NoPictureError(
            f"{error.width}×{error.height} pixels; this server takes up to {error.allowed:,}", 413
        ) from error
    except RejectError as error:
        raise NoPictureError(str(error), 422) from error
    except MachineError as error:
        raise NoPictureError("not enough memory for a picture of this size", 503) from error


def name(given: str | None) -> str:
    """A file's name as it may be shown: the last part of a path, of printable characters."""
    last = (given or "").replace("\\", "/").rstrip("/").rpartition("/")[2]
    last = printable(last.encode("utf-8", "backslashreplace").decode("utf-8"))
    return last if len(last) <= _NAME else f"{last[: _NAME - 1]}…"


def heat_map(heat: Heat) -> str:
    """What the net saw under its map, as a data: URL of a PNG."""
    seen = heat.seen
    factor = max(1, -(-_SIDE // max(seen.shape[:2])))
    large = cv2.resize(seen, None, fx=factor, fy=factor, interpolation=cv2.INTER_NEAREST)
    laid = cam.overlay(large, heat.map)
    _, png = cv2.imencode(".png", laid[:, :, ::-1])
    return f"data:image/png;base64,{base64.b64encode(png.tobytes()).decode('ascii')}"
