"""A server to ask, in this process or as a program of its own."""

from __future__ import annotations

import asyncio
import io
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from PIL import Image
from starlette.types import ASGIApp

from recaffe.model import folder
from recaffe.serve import Limits
from recaffe.serve.worker import Worker

LOCAL = "http://127.0.0.1"
FIELD = "files"
PREDICT = "/api/predict"
FREE = Limits(rate=0)


def ask(app: ASGIApp, method: str, path: str, **request: Any) -> httpx.Response:
    """One request to an application."""
    return ask_all(app, [(method, path, request)])[0]


def ask_all(
    app: ASGIApp, requests: list[tuple[str, str, dict[str, Any]]], client: str = "127.0.0.1"
) -> list[httpx.Response]:
    """Requests to an application, all at once."""

    async def all_of_them() -> list[httpx.Response]:
        transport = httpx.ASGITransport(app=app, client=(client, 4000))
        async with httpx.AsyncClient(transport=transport, base_url=LOCAL) as asking:
            return await asyncio.gather(
                *(asking.request(method, path, **request) for method, path, request in requests)
            )

    return asyncio.run(all_of_them())


def form(*files: Path | tuple[str, bytes]) -> dict[str, Any]:
    """The part of a request that holds pictures."""
    pairs = [(x.name, x.read_bytes()) if isinstance(x, Path) else x for x in files]
    return {"files": [(FIELD, pair) for pair in pairs]}


def png(width: int = 16, height: int = 16, seed: int = 0) -> bytes:
    """A small picture's file."""
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "png")
    return out.getvalue()


@contextmanager
def started(model: Path, *flags: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """`recaffe serve` on a free port, as a program, and its address; ended by SIGKILL if it still runs."""
    command = [sys.executable, "-m", "recaffe", "serve", str(model), "--port", "0", *flags]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=environment
    ) as program:
        try:
            assert program.stderr is not None
            first = program.stderr.readline()
            said = re.search(r"http://\S+:\d+(?=/)", first)
            assert said, first + program.stderr.read()
            yield program, said[0]
        finally:
            program.kill()


class Held:
    """Stands in for a classifier; passes wait until `go` is set. `sizes` are those of its batches."""

    def __init__(self, model: folder.Model, batch_size: int = 4) -> None:
        self.model, self.batch_size = model, batch_size
        self.go, self.within = threading.Event(), threading.Event()
        self.sizes: list[int] = []
        self.error: BaseException | None = None

    def scores(self, records: list[np.ndarray]) -> np.ndarray:
        self.sizes.append(len(records))
        if len(self.sizes) > 1:  # the first is the worker's own, at its start
            self.within.set()
            assert self.go.wait(30)
            if self.error is not None:
                raise self.error
        return np.eye(3, dtype=np.float32)[[int(x.flat[0]) % 3 for x in records]]

    def why_no_heat_maps(self) -> str:
        return "This net has no heat maps."


def working(held: Held, capacity: int = 64) -> Worker:
    return Worker(lambda: held, capacity)  # type: ignore[arg-type,return-value]


def blank(value: int) -> np.ndarray:
    return np.full((3, 10, 12), value, np.uint8)
