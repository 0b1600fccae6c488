"""The page's own files, and a description of the API that asks no other server for anything."""

from __future__ import annotations

import json
from pathlib import Path

from fastapi import FastAPI
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.requests import Request
from starlette.responses import Response

_HERE = Path(__file__).with_name("files")
_KINDS = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
_FILES = {
    "/": "index.html", "/style.css": "style.css", "/script.js": "script.js", "/icon.svg": "icon.svg",
}  # fmt: skip


def add(app: FastAPI) -> None:
    """The routes of the page and of /docs."""
    for path, name in _FILES.items():
        _add(app, path, (_HERE / name).read_bytes(), _KINDS[Path(name).suffix])
    environment = Environment(
        loader=FileSystemLoader(_HERE), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    rendered: list[str] = []

    def docs(_: Request) -> Response:
        if not rendered:
            template = environment.get_template("docs.html.j2")
            whole = json.dumps(app.openapi(), indent=2)
            rendered.append(template.render(api=app.openapi(), whole=whole))
        return Response(rendered[0], media_type=_KINDS[".html"])

    app.add_route("/docs", docs, ["GET", "HEAD"], include_in_schema=False)


def _add(app: FastAPI, path: str, content: bytes, kind: str) -> None:
    def sent(_: Request) -> Response:
        return Response(content, media_type=kind)

    app.add_route(path, sent, ["GET", "HEAD"], include_in_schema=False)
