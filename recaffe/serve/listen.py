"""A port of this machine, had before anything that takes long is loaded."""

from __future__ import annotations

import errno
import socket

from recaffe.errors import MachineError

CONNECTIONS = 256


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
        listener.listen(CONNECTIONS)
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
