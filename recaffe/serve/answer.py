"""A request's files → its answer: decoded by a few threads, classified by the worker."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from starlette.datastructures import UploadFile

from recaffe.errors import DataError
from recaffe.model.folder import Model
from recaffe.model.output import as_json, ranked
from recaffe.serve import Limits, pictures
from recaffe.serve.worker import Worker

_DECODERS = 2  # threads at most: each may hold a picture of the largest size, several times over


@dataclass(frozen=True)
class Wish:
    """What a request wants of each of its pictures."""

    top: int
    heat_map: bool
    threshold: float


class Answerer:
    """Answers requests by a worker that has started."""

    def __init__(self, model: Model, worker: Worker, limits: Limits) -> None:
        self.model, self.worker = model, worker
        self._rules = {**model.rules, "max_pixels": min(limits.pixels, model.rules["max_pixels"])}
        self._pool = ThreadPoolExecutor(min(_DECODERS, os.cpu_count() or 1), "decode")

    async def answers(self, files: Sequence[UploadFile], wish: Wish) -> list[dict[str, Any]]:
        """For each picture `name` and its answer, or `error` and `status`.

        Raises `BusyError` where there is no room for so many.
        """
        with self.worker.reserve(len(files)):
            return await asyncio.gather(*(self._answer(file, wish) for file in files))

    def close(self) -> None:
        """Begin nothing more."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    async def _answer(self, file: UploadFile, wish: Wish) -> dict[str, Any]:
        loop, said = asyncio.get_running_loop(), {"name": pictures.name(file.filename)}
        try:
            record = await loop.run_in_executor(self._pool, self._record, file)
        except pictures.NoPictureError as error:
            return {**said, "error": str(error), "status": error.status}
        result = await asyncio.wrap_future(self.worker.submit(record, wish.heat_map))
        if not np.isfinite(result.scores).all():
            raise DataError("The net's answer is no number: its weights don't fit, or are damaged.")
        labels = self.model.labels
        ranking, unsure = ranked(result.scores, labels, wish.top, wish.threshold)
        answer: dict[str, Any] = {**said, **as_json(ranking, unsure)}
        if result.heat is not None:
            drawn = await loop.run_in_executor(self._pool, pictures.heat_map, result.heat)
            answer["heat_map"] = drawn
        return answer

    def _record(self, file: UploadFile) -> np.ndarray:
        # Read here, so that no more files are in memory than are being decoded.
        return pictures.record(file.file.read(), self._rules)
