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
Seen = dict[str, Any] | str  # what the manifest says of a picture, or why it is rejected


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


def known(path: Path, made_with: Mapping[str, Any]) -> dict[str, Seen]:
    """What was seen, by the SHA-256 of the file; empty where nothing usable is remembered."""
    with suppress(OSError, ValueError, KeyError, TypeError):
        first, _, body = path.read_bytes().partition(b"\n")
        header = json.loads(first)
        if header == {"recipe": made_with, "sha256": hashlib.sha256(body).hexdigest()}:
            return dict(json.loads(body))
    return {}


def remember(path: Path, made_with: Mapping[str, Any], seen: Mapping[str, Seen]) -> None:
    """Write what was seen, in the order of the digests."""
    # As one list: of one at a time, it takes three times as long, to write and to read.
    body = json.dumps(sorted(seen.items())).encode()
    header = {"recipe": made_with, "sha256": hashlib.sha256(body).hexdigest()}
    write_bytes(path, json.dumps(header, sort_keys=True).encode() + b"\n" + body)
