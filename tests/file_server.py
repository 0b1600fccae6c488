"""A web server on this machine that serves files well, or badly in one of many ways."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Served:
    """One file, and how it is served."""

    data: bytes
    ranges: bool = True
    etag: str = '"one"'
    length: bool = True  # whether it says how long the file is
    cuts: list[int] = field(default_factory=list)  # bytes after which each answer breaks off
    states: list[int] = field(default_factory=list)  # what the first answers are instead
    shift: int = 0  # a server that answers from another byte than it was asked for


@dataclass
class Server:
    """Its base URL, the files by name, and what it was asked: (name, Range header)."""

    url: str
    files: dict[str, Served]
    asked: list[tuple[str, str]]


@contextmanager
def running(**files: Served) -> Iterator[Server]:
    """Serve until the block ends."""
    asked: list[tuple[str, str]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            name = self.path.strip("/")
            asked.append((name, self.headers.get("Range", "")))
            file = server.files.get(name)
            if file is None or file.states:
                self.send_error(file.states.pop(0) if file else 404)
                return
            first = self._first(file)
            if first < 0:
                self.send_error(416)
                return
            body = file.data[first:]
            partial = first > 0 or (file.ranges and "Range" in self.headers and file.shift > 0)
            self.send_response(206 if partial else 200)
            if partial:
                last, whole = len(file.data) - 1, len(file.data)
                self.send_header("Content-Range", f"bytes {first}-{last}/{whole}")
            self.send_header("ETag", file.etag)
            if file.length:
                self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body[: file.cuts.pop(0)] if file.cuts else body)
            self.close_connection = True

        def _first(self, file: Served) -> int:
            """The byte to begin at; -1 for one beyond the end."""
            match = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
            if not match or not file.ranges:
                return 0
            if self.headers.get("If-Range", file.etag) != file.etag:
                return 0
            first = max(0, int(match.group(1)) + file.shift)
            return first if first < len(file.data) else -1

        def log_message(self, format: str, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        server = Server(f"http://127.0.0.1:{http.server_port}", files, asked)
        thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield server
        finally:
            http.shutdown()
            thread.join()
