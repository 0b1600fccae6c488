"""One URL → one file, going on where an earlier attempt was cut off."""

from __future__ import annotations

import http.client
import json
import re
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import quote
from urllib.request import Request, urlopen

from recaffe import __version__, progress, stop
from recaffe.errors import MachineError
from recaffe.files import explain_os_error, write_json
from recaffe.net import kinds

TIMEOUT = 30.0  # seconds without a byte
PAUSE = 0.5  # seconds before the second attempt; twice as long before each next one
ATTEMPTS = 3  # in a row that brought no byte
_WRITTEN = "%:/?#[]@!$&'()*+,;=~"
_CHUNK = 1 << 18
_SECONDS_BETWEEN_LINES = 10.0
_OVER = (408, 425, 429, 500, 502, 503, 504)  # a server's states that pass


class Refused(Exception):
    """This URL doesn't give the file; its text says why."""


class _Cut(Exception):
    """The connection broke; another attempt may go on from there."""


def download(url: str, part: Path, size: int, mixed: bool) -> None:
    """Bring `part` to its full length from `url`; what is there already is gone on with.

    `size` is the published one, in bytes, or 0. `mixed`: a part from another URL may be gone on
    with, since the whole will be checked by a digest. Raises `Refused`, after some attempts where the
    network is at fault; `MachineError` for a disk that is full or can't be written.
    """
    failures, most = 0, _length(part)
    while True:
        try:
            return _attempt(url, part, size, mixed)
        except _Cut as cut:
            # A part that is thrown away and comes again is no progress.
            failures = 0 if _length(part) > most else failures + 1
            most = max(most, _length(part))
            if failures == ATTEMPTS:
                raise Refused(str(cut)) from cut
            time.sleep(PAUSE * 2**failures if failures else 0)
            stop.look_up()


def forget(part: Path) -> None:
    """Remove a part and what is known of it."""
    part.unlink(missing_ok=True)
    _note(part).unlink(missing_ok=True)


def _attempt(url: str, part: Path, size: int, mixed: bool) -> None:
    have, validator = _begun(url, part, mixed)
    headers = {"User-Agent": f"recaffe/{__version__}", "Accept-Encoding": "identity"}
    if have:
        headers["Range"] = f"bytes={have}-"
        if validator:
            headers["If-Range"] = validator
    # A URL as people write it may have blanks and letters beyond ASCII.
    with _opened(Request(quote(url, safe=_WRITTEN), headers=headers), part) as answer:
        at, total = _span(answer, have)
        if at != have:
            if at:
                raise Refused(f"it answers from byte {at:,}, where byte {have:,} was asked for")
            have = 0
        if size and total and total != size:
            raise Refused(f"it has {total:,} bytes, not {size:,} as published")
        with _disk(part):
            _note_down(part, url, answer.headers)
            _check_room(part, (total or size) - have)
        _copy(answer, part, have, total or size)
    if _length(part) < (total or size):
        raise _Cut(f"the connection was cut after {_length(part):,} of {total or size:,} bytes")


def _begun(url: str, part: Path, mixed: bool) -> tuple[int, str]:
    """How many bytes can be gone on with, and by what the server knows that the file is the same."""
    have = _length(part)
    try:
        note = json.loads(_note(part).read_text(encoding="utf-8"))
        same, validator = note["url"] == url, note["validator"]
    except (OSError, ValueError, KeyError, TypeError):
        same, validator = False, ""
    if same and validator:
        return have, validator
    return (have, "") if mixed else (0, "")


@contextmanager
def _opened(request: Request, part: Path) -> Iterator[Any]:
    """The answer to a request; a failure as `Refused` or `_Cut`."""
    try:
        answer = urlopen(request, timeout=TIMEOUT)
    except HTTPError as error:
        with error:
            if error.code == http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
                forget(part)
                raise _Cut("it has fewer bytes than are here already") from error
            said = f"the server answers {error.code} ({error.reason})"
            raise (_Cut if error.code in _OVER else Refused)(said) from error
    except URLError as error:
        if request.type == "file":
            raise Refused(f"there is no such file ({error.reason})") from error
        raise _Cut(f"no connection ({error.reason})") from error
    except (OSError, http.client.HTTPException) as error:
        raise _Cut(f"the connection broke ({error or type(error).__name__})") from error
    with answer:
        yield answer


def _span(answer: Any, have: int) -> tuple[int, int]:
    """(first byte, length of the whole file or 0) of an answer."""
    if answer.status == http.HTTPStatus.PARTIAL_CONTENT:
        said = answer.headers.get("Content-Range", "")
        match = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", said.strip())
        if not match:
            raise Refused(f"it answers with a Content-Range that makes no sense: {said!r}")
        total = match.group(2)
        return int(match.group(1)), 0 if total == "*" else int(total)
    length = answer.headers.get("Content-Length", "")
    return 0, int(length) if length.isdecimal() else 0


def _copy(answer: Any, part: Path, have: int, total: int) -> None:
    """Write the answer after the first `have` bytes of the part."""
    with _disk(part):
        file = part.open("r+b" if have else "wb")
    last = time.monotonic()
    with file, progress.bar(total or None, "fetch", "B", initial=have) as shown:
        file.seek(have)
        done = have
        while True:
            stop.look_up()
            try:
                data = answer.read1(_CHUNK) if hasattr(answer, "read1") else answer.read(_CHUNK)
            except (OSError, http.client.HTTPException) as error:
                raise _Cut(f"the connection broke after {done:,} bytes ({error})") from error
            if not data:
                return
            if not done and kinds.is_page(data):
                raise Refused(
                    "it answers with an HTML page; the file is to be fetched by hand there"
                )
            with _disk(part):
                file.write(data)
            done += len(data)
            shown.update(len(data))
            if time.monotonic() - last > _SECONDS_BETWEEN_LINES:
                last = time.monotonic()
                of = f" of {total / 1e6:,.0f}" if total else ""
                progress.line(f"fetch: {done / 1e6:,.0f}{of} MB")


def _note_down(part: Path, url: str, headers: Any) -> None:
    """What must be the same for an attempt to go on. A weak ETag doesn't speak of bytes."""
    tag = headers.get("ETag", "")
    validator = tag if tag.startswith('"') else headers.get("Last-Modified", "")
    write_json(_note(part), {"url": url, "validator": validator})


def _check_room(part: Path, wanted: int) -> None:
    free = shutil.disk_usage(part.parent).free
    if wanted > free:
        raise MachineError(
            f"{part.parent} has room for {free / 1e6:,.0f} MB, and {wanted / 1e6:,.0f} MB are to come. Free "
            "some space, or name another folder in RECAFFE_WEIGHTS; then run the same command again."
        )


@contextmanager
def _disk(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise explain_os_error(error, path) from error


def _length(part: Path) -> int:
    with suppress(OSError):
        return part.stat().st_size
    return 0


def _note(part: Path) -> Path:
    return part.with_name(f"{part.name}.json")
