"""The folder of caffemodels that all projects, and all users who can read it, share.

`KEY/FILE` is a file and `KEY/FILE.json` the note on it, written after it; KEY is its published digest.
A file whose note is missing is none.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from recaffe.errors import MachineError, WeightsError
from recaffe.files import explain_os_error, sha256, write_aside, write_json
from recaffe.weights import form
from recaffe.weights.source import Source, kind_name

FOLDER = "RECAFFE_WEIGHTS"


@dataclass(frozen=True)
class Note:
    """What is known of a cached file. `verified`: it has the digest under which it was published."""

    sha256: str
    size: int
    came_from: str
    verified: bool


def folder() -> Path:
    """$RECAFFE_WEIGHTS, else recaffe/weights in $XDG_CACHE_HOME or ~/.cache."""
    if own := os.environ.get(FOLDER):
        return Path(own).absolute()
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base, "recaffe", "weights").absolute()


def path_of(source: Source) -> Path:
    """Where a source's file lies, or would."""
    return folder() / source.key / source.file


def kept() -> list[Path]:
    """All files in the cache that have a note, whoever published them."""
    notes = (p for p in folder().glob("*/*.json") if not p.name.endswith(".part.json"))
    return sorted(p.with_name(p.name.removesuffix(".json")) for p in notes)


def note_of(path: Path) -> Note | None:
    """The note on a cached file; None if it isn't here in its full length. The file is not read."""
    try:
        note = Note(**json.loads(_note_path(path).read_text(encoding="utf-8")))
        return note if path.stat().st_size == note.size else None
    except (OSError, ValueError, TypeError):
        return None


def problem(path: Path) -> str:
    """What is wrong with a cached file, which is read in full; empty if nothing is."""
    note = note_of(path)
    if note is None:
        return f"{path} isn't there in full"
    try:
        found = sha256(path)
    except OSError as error:
        return f"{path}: {error.strerror}"
    if found != note.sha256:
        return f"{path} has changed: its SHA-256 is {found}, not {note.sha256}"
    return ""


def add(source: Source, file: Path, came_from: str, *, unverified: bool = False) -> Note:
    """Copy a local file into the cache. Raises `WeightsError` if it isn't the published one.

    With `unverified` a file with another digest or size is taken all the same, and the note says so.
    A file whose digest was never published is always unverified.
    """
    if not file.is_file():
        raise WeightsError(f"{file}: there is no such file. Name the caffemodel that you have.")
    wrong = mismatch(source, file)
    if wrong and not unverified:
        raise WeightsError(
            f"{file} is not the published {source.file}: {wrong}. Nothing was added. Fetch it again "
            f"from {source.page or source.urls[0]}, or take it all the same with --unverified."
        )
    form.check(file)
    with locked(source):
        with write_aside(path_of(source)) as aside:
            shutil.copyfile(file, aside)
        return keep(source, came_from, verified=not wrong and bool(source.hash))


def keep(source: Source, came_from: str, *, verified: bool) -> Note:
    """Write the note on the file that stands in its place now."""
    path = path_of(source)
    note = Note(sha256(path), path.stat().st_size, came_from, verified)
    write_json(_note_path(path), asdict(note))
    return note


def remove(source: Source) -> None:
    """Forget a file, note first."""
    path = path_of(source)
    try:
        _note_path(path).unlink(missing_ok=True)
        path.unlink(missing_ok=True)
    except OSError as error:
        raise explain_os_error(error, path) from error


def mismatch(source: Source, file: Path) -> str:
    """How a file differs from what was published; empty if it doesn't, as far as that is known."""
    size = file.stat().st_size
    if source.size and size != source.size:
        return f"it has {size:,} bytes, not {source.size:,}"
    for kind, wanted in source.hashes.items():
        if (found := _hash(file, kind)) != wanted:
            return f"its {kind_name(kind)} is {found}, not {wanted}"
    return ""


@contextmanager
def locked(source: Source) -> Iterator[None]:
    """Alone with a source's files, among all processes of this machine (and others, over NFS 4)."""
    home = path_of(source).parent
    try:
        home.mkdir(parents=True, exist_ok=True)
        file = (home / ".lock").open("a", encoding="utf-8")
    except OSError as error:
        said = str(explain_os_error(error, home)).rstrip(".")
        raise MachineError(f"{said}. The cache's folder is {FOLDER}'s, if that is set.") from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(f"Another process is fetching {source.file}; waiting for it.", file=sys.stderr)
            fcntl.flock(file, fcntl.LOCK_EX)
        except OSError:  # a disk without locks: writing aside still keeps files whole
            pass
        yield


def _hash(file: Path, kind: str) -> str:
    with file.open("rb") as f:
        return hashlib.file_digest(f, kind).hexdigest()


def _note_path(path: Path) -> Path:
    return path.with_name(f"{path.name}.json")
