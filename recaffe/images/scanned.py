"""What a scan found out of each picture's content, remembered beside the manifest.

What is seen in a picture follows from its bytes, the scan's settings and the libraries' versions
alone, so a later scan looks only at contents that are new. A memory that is damaged, of other
settings or of other versions counts as none.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from recaffe import stages
from recaffe.files import write_bytes
from recaffe.images.decode import VERSIONS
from recaffe.images.record import seen_with

NAME = ".scanned.txt"
COLUMNS = [
    "pixels", "phash", "thumb", "format", "mode", "width", "height", "frames", "orientation",
]  # fmt: skip
Seen = list[str] | str  # what the manifest says of a picture, or why it is rejected


def recipe(settings: Mapping[str, Any], lmdb: Mapping[str, Any]) -> dict[str, Any]:
    """All that is seen in a picture follows from, besides its bytes. `settings` are the config's scan."""
    return {
        **seen_with(lmdb),
        "stage": stages.SCAN,
        "background": settings["background"],
        "max_pixels": settings["max_pixels"],
        **VERSIONS,
        "numpy": np.__version__,
    }


def seen(facts: Mapping[str, Any]) -> Seen:
    """What the manifest says of a picture, from all that is known of it."""
    return [str(facts[column]) for column in COLUMNS]


def known(path: Path, made_with: Mapping[str, Any]) -> dict[str, Seen]:
    """What was seen, by the SHA-256 of the file; empty where nothing usable is remembered."""
    with suppress(OSError, ValueError, KeyError, TypeError):
        first, _, body = path.read_bytes().partition(b"\n")
        if json.loads(first) == _header(made_with, body):
            return dict(json.loads(body))
    return {}


def remember(path: Path, made_with: Mapping[str, Any], what: Mapping[str, Seen]) -> None:
    """Write what was seen, in the order of the digests."""
    # As one list: of one at a time, it takes three times as long, to write and to read; and as CSV twice.
    body = json.dumps(sorted(what.items())).encode()
    header = json.dumps(_header(made_with, body), sort_keys=True)
    write_bytes(path, header.encode() + b"\n" + body)


def _header(made_with: Mapping[str, Any], body: bytes) -> dict[str, Any]:
    digest = hashlib.sha256(body).hexdigest()
    return {"recipe": made_with, "columns": COLUMNS, "sha256": digest}
