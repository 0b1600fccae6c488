"""A model behind a small page and a JSON API on this machine."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """What a request may cost. `queue` counts pictures that wait or are worked on, of all requests."""

    body: int = 25 * 2**20  # bytes of a request
    pictures: int = 16  # in a request
    pixels: int = 50_000_000  # of a picture
    queue: int = 64
    rate: float = 10.0  # requests a second of one client, on average; 0 for any
    burst: int = 50  # of them at once
    timeout: float = 60.0  # seconds for sending a request, and again for answering it


class BusyError(Exception):
    """More is waiting than the queue holds."""
