"""Look at every picture before any is used: decoded in full, in parallel; hashes taken."""

from __future__ import annotations

import csv
import hashlib
import os
from collections.abc import Iterable, Iterator
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any, TextIO

import cv2
import numpy as np
import xxhash

from recaffe.errors import DataError
from recaffe.files import write_aside
from recaffe.images import decoded, inventory, scanned
from recaffe.images.decode import Picture, RejectError, read
from recaffe.images.inventory import Row
from recaffe.images.record import picture_of
from recaffe.images.scanned import Seen
from recaffe.pool import ordered_map, worker_pool
from recaffe.progress import line, progress
from recaffe.tables import cell_of, csv_blocks

MANIFEST = (*inventory.Row._fields, *scanned.COLUMNS)
REJECTED = ("path", "label", "reason")
HASH_SIDE = 16
_SIDE = 64  # of the reduced picture that hash and thumbnail are taken from


def scan(
    inventory_file: Path,
    manifest: Path,
    rejected: Path,
    settings: dict[str, Any],
    threads: int,
    lmdb: dict[str, Any] | None = None,
) -> dict[str, int]:
    """Decode each picture of the inventory; write manifest.csv and rejected.csv.

    A content that an earlier scan has seen isn't decoded again. With the config's `lmdb`, images of the
    records that will be wanted are left for the LMDBs (`images.decoded`); with its `fast`, JPEGs are
    looked at as they come from the decoder for those. Returns the counts. Raises `DataError` when the
    share of rejects is over `settings["max_rejects"]`; rejected.csv is written all the same.
    """
    rows = inventory.rows(inventory_file)
    good, bad = [], []
    for row, seen in zip(rows, _seen(rows, manifest.parent, settings, threads, lmdb), strict=True):
        if isinstance(seen, str):
            bad.append((row.path, row.label, seen))
        else:
            good.append([*row, *seen])
    _write(rejected, REJECTED, bad)
    if len(bad) > settings["max_rejects"] * len(rows):
        head = "\n".join(f"  {path}: {reason}" for path, _, reason in bad[:10])
        raise DataError(
            f"{len(bad)} of {len(rows)} pictures can't be used, more than scan.max_rejects "
            f"({settings['max_rejects']:.0%}) allows. The first ones:\n{head}\n"
            f"All of them are in {rejected}. Mend or remove them, or raise scan.max_rejects."
        )
    with write_aside(manifest) as aside, aside.open("wb") as f:
        f.writelines(csv_blocks(chain([MANIFEST], good)))
    return {"pictures": len(rows), "rejected": len(bad)}


def read_manifest(path: Path) -> list[dict[str, str]]:
    """Rows of a manifest: one usable picture each."""
    return inventory.read(path)


def contents(manifest: Path) -> Iterator[tuple[str, str]]:
    """Path, root included, and SHA-256 of each usable picture's file, one by one."""
    with manifest.open(encoding="utf-8", newline="", errors="surrogateescape") as f:
        table = csv.reader(f)
        root, path, sha = map(next(table).index, ("root", "path", "sha256"))
        for row in table:
            yield os.path.join(row[root], row[path]), row[sha]  # noqa: PTH118 - 10 times faster than Path


def _seen(
    rows: list[Row],
    folder: Path,
    settings: dict[str, Any],
    threads: int,
    lmdb: dict[str, Any] | None,
) -> list[Seen]:
    """What is to be said of each row's picture; what was seen is remembered in the folder."""
    memory, recipe = folder / scanned.NAME, scanned.recipe(settings, lmdb or {})
    known = scanned.known(memory, recipe)
    new = [row for row in rows if row.sha256 not in known]
    if len(new) < len(rows):
        line(f"scan: {len(rows) - len(new)} pictures were seen before, {len(new)} to decode.")
    said: dict[int, Seen] = {}
    images, kept = folder / decoded.FOLDER, dict[str, decoded.Place | None]()
    both = {"scan": settings, "lmdb": lmdb}
    keep = images if lmdb and decoded.begin(images, both, len(new)) else None
    try:
        with worker_pool(threads) as pool:
            work = partial(look, settings=settings, lmdb=lmdb, keep=keep)
            looks = ordered_map(pool, work, new)
            for row, (seen, of_content, place) in zip(
                new, progress(looks, len(new), "scan", "img"), strict=True
            ):
                said[id(row)] = seen
                if of_content:
                    known[row.sha256] = seen
                    if keep and not isinstance(seen, str):
                        kept[row.sha256] = place
    finally:  # also when it is stopped, for the next one to go on from there
        decoded.finish(images, both, kept)
        there = {row.sha256 for row in rows}
        scanned.remember(memory, recipe, {k: v for k, v in known.items() if k in there})
    return [name_problem(r.path) or said.get(id(r)) or known[r.sha256] for r in rows]


def look(
    row: Row,
    settings: dict[str, Any],
    lmdb: dict[str, Any] | None = None,
    keep: Path | None = None,
) -> tuple[Seen, bool, decoded.Place | None]:
    """What the manifest says of one picture, or the reason why it is rejected.

    Also whether that follows from the content alone, as its SHA-256 in the row names it; and where the
    image of its record for `lmdb` is, if one is to be left in the folder `keep`.
    """
    try:
        data = read(Path(row.root) / row.path)
    except RejectError as error:
        return str(error), False, None
    if hashlib.sha256(data).hexdigest() != row.sha256:
        return "changed while the scan ran; run the same command again", False, None
    try:
        picture = picture_of(data, settings, lmdb or {})
    except RejectError as error:
        return str(error), True, None
    return (
        scanned.seen(describe(picture)),
        True,
        decoded.keep(keep, picture, lmdb) if keep and lmdb else None,
    )


def name_problem(path: str) -> str:
    """Why a picture of that path can't be listed; "" if it can."""
    if "\n" in path or "\r" in path or not _is_utf8(path):
        return "file name with a line break or letters that are not UTF-8"
    return ""


def describe(picture: Picture) -> dict[str, Any]:
    """Pixel hash, perceptual hash, thumbnail and shape of a decoded picture."""
    bgr = picture.bgr
    height, width = bgr.shape[:2]
    # It finds twins and guards against nobody: 0.02 ms of a picture of 500×375, where SHA-256 takes 0.27.
    pixels = xxhash.xxh3_128(f"{height}x{width}".encode())
    pixels.update(np.ascontiguousarray(bgr).data)
    small = reduced(bgr)
    return {
        "pixels": pixels.hexdigest(),
        "phash": perceptual_hash(small),
        "thumb": cv2.resize(small, (4, 4), interpolation=cv2.INTER_AREA).tobytes().hex(),
        "format": picture.format,
        "mode": picture.mode,
        "width": picture.width,
        "height": picture.height,
        "frames": picture.frames,
        "orientation": picture.orientation,
    }


def reduced(bgr: np.ndarray) -> np.ndarray:
    """A picture as 64×64 means of its areas (but for an odd last row or column).

    Halved while it is large: OpenCV has a quick way for just that. 0.15 ms of a picture of 500×375, where
    hash and thumbnail from all pixels took 0.8; 4 ms of 12 megapixels instead of 33.
    """
    while min(height := bgr.shape[0], width := bgr.shape[1]) >= 4 * _SIDE:
        even = bgr[: height & ~1, : width & ~1]
        bgr = cv2.resize(even, (width // 2, height // 2), interpolation=cv2.INTER_AREA)
    return cv2.resize(bgr, (_SIDE, _SIDE), interpolation=cv2.INTER_AREA)


def perceptual_hash(small: np.ndarray) -> str:
    """256 bits, hex, of a reduced picture: signs of the 16×16 lowest DCT terms against their median.

    After Zauner, "Implementation and benchmarking of perceptual image hash functions", 2010.
    """
    gray = cv2.cvtColor(small, cv2.COLOR_BGR2GRAY).astype(np.float32)
    low = cv2.dct(gray)[:HASH_SIDE, :HASH_SIDE].ravel()
    # Of 255 terms. NumPy's median looks for NaN as well, and takes ten times as long.
    median = np.partition(low[1:], 127)[127]
    return np.packbits(low > median).tobytes().hex()


def _is_utf8(text: str) -> bool:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _write(path: Path, header: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> None:
    with write_aside(path) as aside:
        f: TextIO
        with aside.open("w", encoding="utf-8", newline="", errors="backslashreplace") as f:
            table = csv.writer(f, lineterminator="\n")
            table.writerow(header)
            table.writerows(tuple(map(cell_of, row)) for row in rows)
