"""A server to ask, in this process or as a program of its own."""

from __future__ import annotations

import asyncio
import io
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from PIL import Image
from starlette.types import ASGIApp

LOCAL = "http://127.0.0.1"
FIELD = "files"


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
