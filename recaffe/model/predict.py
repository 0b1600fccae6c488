"""Pictures through a model: by the very functions that made the LMDB's records and read them in the test."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from recaffe.errors import DataError
from recaffe.images.decode import RejectError, read
from recaffe.images.folders import walk
from recaffe.images.record import picture_of
from recaffe.lmdb.datum import parse_datum, pixels
from recaffe.lmdb.write import serialised
from recaffe.model.classifier import Classifier
from recaffe.model.folder import Model

_DECODERS = 8  # threads at most; OpenCV and Pillow let the others work meanwhile


@dataclass(frozen=True)
class Answer:
    """A picture's probabilities, float32 K; or why there are none."""

    path: str
    scores: np.ndarray | None
    reason: str = ""


def listed(names: Iterable[str], lines: Iterable[str]) -> list[str]:
    """Pictures named by files, folders (with all in them, as the workflow's scan walks) and `-`.

    `lines`, one name a line, stand for `-`. Raises `DataError` for a folder without files.
    """
    found: list[str] = []
    for name in names:
        if name == "-":
            found += listed([x for line in lines if (x := line.rstrip("\r\n")) and x != "-"], ())
        elif Path(name).is_dir():
            inside = list(walk(name, name))
            if not inside:
                raise DataError(f"There are no files in the folder {name}.")
            found += inside
        else:
            found.append(name)
    return found


def record_of(path: str, rules: dict[str, Any]) -> np.ndarray:
    """The record that the picture would have in the LMDB: uint8, C×H×W; raises `RejectError`."""
    return record_of_bytes(read(path), rules)


def record_of_bytes(data: bytes, rules: dict[str, Any]) -> np.ndarray:
    """`record_of` for the content of a picture's file."""
    picture = picture_of(data, rules, rules["record"])
    return pixels(parse_datum(serialised(picture, 0, rules["record"])))


def classify(
    model: Model,
    paths: Iterable[str],
    batch_size: int = 0,
    threads: int = 0,
    device: str = "auto",
) -> Iterator[Answer]:
    """An answer for each picture, in their order; `batch_size` and `threads` 0 are the defaults.

    Raises `NetError` and `WeightsError` where the model's files don't fit each other.
    """
    classifier = Classifier(model, batch_size, threads, device)
    for group in _groups(_records(paths, model.rules), classifier.batch_size):
        good = [x for _, x in group if isinstance(x, np.ndarray)]
        scores = iter(classifier.scores(good)) if good else iter(())
        for path, record in group:
            if isinstance(record, str):
                yield Answer(path, None, record)
            else:
                yield Answer(path, next(scores))


_Record = tuple[str, np.ndarray | str]


def _groups(records: Iterator[_Record], size: int) -> Iterator[list[_Record]]:
    """`size` records each, but for the last, and the rejects between them."""
    group: list[_Record] = []
    count = 0
    for path, record in records:
        group.append((path, record))
        count += not isinstance(record, str)
        if count == size or len(group) == 4 * size:  # so that many rejects are told soon
            yield group
            group, count = [], 0
    if group:
        yield group


def _records(paths: Iterable[str], rules: dict[str, Any]) -> Iterator[_Record]:
    """Each path with its record, or with the reason why it has none; a few ahead, by threads."""

    def load(path: str) -> np.ndarray | str:
        try:
            return record_of(path, rules)
        except RejectError as error:
            return str(error)

    threads = min(_DECODERS, os.cpu_count() or 1)
    rest = iter(paths)
    pool = ThreadPoolExecutor(threads, "decode")
    try:
        yield from _ahead(pool, load, rest, 4 * threads)
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def _ahead(
    pool: ThreadPoolExecutor, load: Callable[[str], np.ndarray | str], paths: Iterator[str], n: int
) -> Iterator[_Record]:
    waiting: deque[tuple[str, Future[np.ndarray | str]]] = deque()
    for path in islice(paths, n):
        waiting.append((path, pool.submit(load, path)))
    while waiting:
        path, future = waiting.popleft()
        record = future.result()
        for following in islice(paths, 1):
            waiting.append((following, pool.submit(load, following)))
        yield path, record
