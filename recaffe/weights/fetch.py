"""A published caffemodel's path on this machine, fetched if it must be."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

from recaffe import progress
from recaffe.errors import MachineError, WeightsError
from recaffe.files import explain_os_error
from recaffe.net import kinds
from recaffe.weights import cache, download, form
from recaffe.weights.cache import Note
from recaffe.weights.source import MIRRORS, Source, is_url


def get(source: Source) -> tuple[Path, Note]:
    """The cached file and its note; it is read and checked, and fetched where it is missing.

    Each place is tried in turn. Two processes don't fetch the same file: the second one waits.
    Raises `MachineError` that says what each place answered and how to do it by hand.
    """
    path = cache.path_of(source)
    if note := _sound(path):
        return path, note
    with cache.locked(source):
        if note := _sound(path):  # fetched meanwhile
            return path, note
        if source.hash and path.is_file() and not cache.mismatch(source, path):
            return path, cache.keep(source, source.urls[0], verified=True)  # killed before its note
        cache.remove(source)
        said = []
        for url in source.places:
            progress.line(f"Fetching {source.file} from {url}")
            try:
                _from(source, url)
            except download.Refused as why:
                said.append(f"  {url}: {why}")
                progress.line(f"{url}: {why}")
                continue
            return path, cache.keep(source, url, verified=bool(source.hash))
    raise MachineError(_by_hand(source, said))


def record(source: Source, note: Note, done: str) -> dict[str, Any]:
    """What a run's provenance says of its weights; where this copy came from doesn't belong there."""
    return {
        "url": source.urls[0],
        "page": source.page,
        "sha256": note.sha256,
        "verified": note.verified,
        "licence": source.licence or "unknown",
        "form": done,
    }


def _sound(path: Path) -> Note | None:
    """The note on a cached file that is as it was; what is not is told, and to be fetched again."""
    note = cache.note_of(path)
    if note is None:
        return None
    if wrong := cache.problem(path):
        print(f"{wrong}. It is fetched again.", file=sys.stderr)
        return None
    return note


def _from(source: Source, url: str) -> None:
    """Fetch from one place, check, put in place. Raises `Refused`."""
    path = cache.path_of(source)
    part = path.with_name(f"{path.name}.part")
    resumed = part.exists()
    try:
        if not (resumed and source.hash and not cache.mismatch(source, part)):
            download.download(url, part, source.size, mixed=bool(source.hash))
        wrong = _wrong(source, part)
        if wrong and resumed:  # the beginning may have been another file's
            download.forget(part)
            download.download(url, part, source.size, mixed=True)
            wrong = _wrong(source, part)
        if wrong:
            raise download.Refused(_put_aside(part, wrong))
        os.replace(part, path)
        download.forget(part)
    except OSError as error:
        raise explain_os_error(error, path) from error


def _wrong(source: Source, part: Path) -> str:
    """Why a whole file isn't what it should be; empty if it is."""
    if wrong := cache.mismatch(source, part):
        return wrong
    try:
        form.check(part)
    except WeightsError as error:
        return str(error).removeprefix(f"{part} ").rstrip(".")
    return ""


def _put_aside(part: Path, wrong: str) -> str:
    """What becomes of a wrong file: a page is removed, another caffemodel is kept to be looked at."""
    with part.open("rb") as f:
        what = kinds.describe(f.read(4096))
    if "HTML" in what or "text" in what:
        download.forget(part)
        return f"it gives {what}; {wrong}. That was removed"
    aside = part.with_name(part.name.removesuffix(".part") + ".wrong")
    os.replace(part, aside)
    download.forget(part)
    return f"it gives another file: {wrong}. That is kept as {aside}"


def _by_hand(source: Source, said: list[str]) -> str:
    about = [f"{source.size:,} bytes"] if source.size else []
    about += [source.digest] if source.hash else []
    known = f" ({', '.join(about)})" if about else ""
    page = f", by way of {source.page}," if source.page else ""
    name = source.name if not is_url(source.name) else f"'{source.name}'"
    digest = f" --sha256 {source.sha256}" if is_url(source.name) and source.sha256 else ""
    mirror = f" {MIRRORS} can name a folder or server of yours that has it." * source.mirrored
    return (
        f"{source.file}, the weights of {source.name}, could not be fetched:\n"
        + "\n".join(said)
        + f"\nCheck the network and run again: what has arrived is kept. Or fetch {source.file}{known} "
        f"elsewhere{page} and hand it over: `recaffe weights add {name} FILE{digest}`.{mirror}"
    )
