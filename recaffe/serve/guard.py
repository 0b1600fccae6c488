"""What stands between the network and the application: who may ask, how much, and what every answer says.

Only what asks for work (POST) is counted. Hosts: a page of the web whose name is made to resolve to this
machine (DNS rebinding) would send that name, and is refused. A form on another page could send pictures
here, though never read the answer; browsers say where it comes from, and it is refused too.
"""

from __future__ import annotations

import asyncio
import math
import sys
from collections.abc import Iterable
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from recaffe.model.output import printable
from recaffe.serve import Limits
from recaffe.serve.rate import Rate

LOCAL = frozenset({"localhost", "127.0.0.1", "::1"})
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "img-src 'self' data: blob:; connect-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Cache-Control": "no-store",
}
_REQUESTS = 32  # that are read or answered at once
_HELD = 8  # requests of the largest size whose bytes are held at once


def problem(status: int, message: str, headers: dict[str, str] | None = None) -> Response:
    """An error as this API tells it."""
    return JSONResponse({"error": message}, status, headers)


def busy() -> Response:
    """What to say while all room is taken."""
    return problem(
        503, "The server is busy with other pictures. Try again in a second.", {"Retry-After": "1"}
    )


class Guard:
    """Wraps an application. `hosts` are the names to answer to, without ports; none means any."""

    def __init__(self, app: ASGIApp, limits: Limits, hosts: Iterable[str] = ()) -> None:
        self.app, self.limits, self.hosts = app, limits, frozenset(x.lower() for x in hosts)
        self.requests = self.held = 0
        self._rate = Rate(limits.rate, limits.burst)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started = False

        async def guarded(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                MutableHeaders(scope=message).update(HEADERS)
            await send(message)

        try:
            await self._answer(scope, receive, guarded)
        except ClientDisconnect:
            pass  # nobody is there to be told
        except asyncio.CancelledError:  # it has had its time after a Ctrl-C
            if not started:
                await problem(503, "The server has been stopped.")(scope, receive, guarded)
        except Exception as error:
            said = printable(f"{type(error).__name__}: {error}")
            print(f"recaffe: a request failed: {said}", file=sys.stderr)
            if not started:
                failed = problem(500, "The server failed at this. It says more where it runs.")
                await failed(scope, receive, guarded)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = Headers(scope=scope)
        if (refused := self._refused(scope, headers)) is not None:
            await refused(scope, receive, send)
        elif scope["method"] in ("GET", "HEAD", "OPTIONS"):
            await self.app(scope, receive, send)
        else:
            await self._counted(scope, receive, send)

    def _refused(self, scope: Scope, headers: Headers) -> Response | None:
        hosts = headers.getlist("host")
        if len(hosts) != 1:
            return problem(400, "The request names no host, or several.")
        if self.hosts and _name(hosts[0]) not in self.hosts:
            return problem(421, f"This server answers to {', '.join(sorted(self.hosts))} alone.")
        if scope["method"] in ("GET", "HEAD", "OPTIONS"):
            return None
        origin = headers.get("origin")
        if origin is not None and _page_of(origin) != hosts[0].lower():
            return problem(403, "Other pages may not send pictures here.")
        client = scope.get("client")
        if wait := self._rate.take(client[0] if client else ""):
            seconds = math.ceil(wait)
            return problem(
                429, f"Too many requests. Try again in {seconds} s.", {"Retry-After": str(seconds)}
            )
        length = headers.get("content-length", "0")
        if not length.isdecimal() or int(length[:20]) > self.limits.body:
            return self._too_large()
        return busy() if self.requests >= _REQUESTS else None

    async def _counted(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes on a request whose bytes count, however it sends them."""
        size = 0

        async def counted() -> Message:
            nonlocal size
            message = await receive()
            got = len(message.get("body", b""))
            size += got
            self.held += got
            if size > self.limits.body:
                raise HTTPException(413, self._size())
            if self.held > _HELD * self.limits.body:
                raise HTTPException(
                    503, "The server is busy. Try again in a second.", {"Retry-After": "1"}
                )
            return message

        self.requests += 1
        try:
            await self.app(scope, counted, send)
        finally:
            self.requests -= 1
            self.held -= size

    def _too_large(self) -> Response:
        return problem(413, self._size())

    def _size(self) -> str:
        return f"The request is larger than {self.limits.body / 2**20:g} MiB. Send fewer or smaller pictures."


def _page_of(origin: str) -> str:
    """The host and port of an Origin header; empty for what is none."""
    try:
        return urlsplit(origin).netloc.lower()
    except ValueError:
        return ""


def _name(host: str) -> str:
    """A Host header without its port, and without an IPv6 address's brackets."""
    host = host.strip().lower()
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0].removesuffix(".")
