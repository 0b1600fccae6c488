"""The server itself: a port, a loaded model, and an end that a Ctrl-C asks for."""

from __future__ import annotations

import asyncio
import errno
import ipaddress
import socket
import sys
from collections.abc import Callable

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from recaffe.errors import MachineError
from recaffe.model.classifier import Classifier
from recaffe.model.folder import Model
from recaffe.serve import Limits
from recaffe.serve.app import build
from recaffe.serve.guard import LOCAL
from recaffe.serve.worker import Worker

_GRACE = 5  # seconds that requests have left after a Ctrl-C
_SILENCE = 20.0  # seconds that a connection may take to say what it wants
_CONNECTIONS = 256


def serve(
    model: Model,
    load: Callable[[], Classifier],
    host: str,
    port: int,
    limits: Limits,
    threshold: float,
) -> None:
    """Serve until SIGINT or SIGTERM, which is then raised again.

    Raises `MachineError` where the address can't be had, and what loading the model raises.
    """
    with listening(host, port) as listener:
        address = str(listener.getsockname()[0])
        local = ipaddress.ip_address(address.partition("%")[0]).is_loopback
        hosts = {*LOCAL, host.lower(), address} if local else ()
        with Worker(load, limits.queue) as worker:
            app = build(model, worker, limits, threshold, hosts)
            config = uvicorn.Config(
                app, http=_Http, ws="none", access_log=False, log_level="critical", server_header=False,
                # A client's own word on its address would let it ask as often as it likes.
                proxy_headers=False, timeout_graceful_shutdown=_GRACE,
            )  # fmt: skip
            _tell(model, host, listener.getsockname()[1], local)
            uvicorn.Server(config).run(sockets=[listener])


def listening(host: str, port: int) -> socket.socket:
    """A socket that has the address; raises `MachineError`."""
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except (OSError, UnicodeError) as error:
        raise MachineError(
            f"--host {host} is no name or address of this machine: {error}."
        ) from error
    listener = socket.socket(family)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(_CONNECTIONS)
    except OSError as error:
        listener.close()
        why = _WHY.get(error.errno or 0, f"{error.strerror}.")
        raise MachineError(f"Can't serve on {host}:{port}: {why}") from error
    return listener


_WHY = {
    errno.EADDRINUSE: "another program has that port. Give --port another one, or 0 for any that is free.",
    errno.EACCES: "ports below 1024 are for root. Give --port 8000.",
    errno.EADDRNOTAVAIL: "this machine doesn't have that address. Give --host 127.0.0.1, or one of its own.",
}


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
        if len(self.connections) > _CONNECTIONS:
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
