"""The server itself: a loaded model behind a socket, and an end that a Ctrl-C asks for."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import sys
from collections.abc import Callable

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from recaffe.model.classifier import Classifier
from recaffe.model.folder import Model
from recaffe.serve import Limits
from recaffe.serve.app import build
from recaffe.serve.guard import LOCAL
from recaffe.serve.listen import CONNECTIONS
from recaffe.serve.worker import Worker

_GRACE = 5  # seconds that requests have left after a Ctrl-C
_SILENCE = 20.0  # seconds that a connection may take to say what it wants


def serve(
    model: Model, load: Callable[[], Classifier], host: str, listener: socket.socket,
    limits: Limits, threshold: float,
) -> None:  # fmt: skip
    """Serve on a socket that was made for `host`, until SIGINT or SIGTERM, which is then raised again.

    Raises what loading the model raises.
    """
    address, port = listener.getsockname()[:2]
    local = ipaddress.ip_address(address.partition("%")[0]).is_loopback
    hosts = {*LOCAL, host.lower(), address} if local else ()
    with Worker(load, limits.queue) as worker:
        app = build(model, worker, limits, threshold, hosts)
        config = uvicorn.Config(
            app, http=_Http, ws="none", access_log=False, log_level="critical", server_header=False,
            # A client's own word on its address would let it ask as often as it likes.
            proxy_headers=False, timeout_graceful_shutdown=_GRACE,
        )  # fmt: skip
        _tell(model, host, port, local)
        uvicorn.Server(config).run(sockets=[listener])


def _tell(model: Model, host: str, port: int, local: bool) -> None:
    shown = f"[{host}]" if ":" in host else host
    print(
        f"recaffe: {model.folder} with {len(model.labels)} classes is on http://{shown}:{port}/ - Ctrl-C ends it.",
        file=sys.stderr, flush=True,
    )  # fmt: skip
    if not local:
        print(
            f"recaffe: WARNING: --host {host} is not this machine alone: whoever can reach its port {port} "
            "can use the model and see its description. There is no password and no encryption; put a "
            "proxy in front that has both, or leave --host out.",
            file=sys.stderr, flush=True,
        )  # fmt: skip


class _Http(H11Protocol):
    """Closes connections on which no request has come for a while, and those over a number."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._last = self.cycle
        self._watch = self.loop.call_later(_SILENCE, self._look)
        if len(self.connections) > CONNECTIONS:
            transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        self._watch.cancel()
        super().connection_lost(exc)

    def _look(self) -> None:
        """A request whose head alone takes so long is none; bodies have a time of their own."""
        idle = self.cycle is None or self.cycle.response_complete
        if idle and self.cycle is self._last:
            self.transport.close()
        else:
            self._last = self.cycle
            self._watch = self.loop.call_later(_SILENCE, self._look)
