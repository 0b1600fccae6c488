"""Write aside, check, rename: no file is ever half there under its own name."""

from __future__ import annotations

import errno
import hashlib
import io
import json
import os
import platform
import shutil
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

from recaffe.errors import MachineError

# Names this machine in names of files that are being written: process numbers count on one only.
_HOST = hashlib.sha256(platform.node().encode()).hexdigest()[:6]
_REST = 3600.0  # seconds without a write after which another machine's file is nobody's


def sha256(path: Path | str) -> str:
    """Hex SHA-256 of a file's bytes."""
    digest = hashlib.sha256()
    # Of a picture of 80 KB it takes a fifth less than hashlib.file_digest, which zeroes a buffer first.
    with open(path, "rb", buffering=0) as f:  # noqa: PTH123 - str in, as for many small files
        while block := f.read(1 << 18):
            digest.update(block)
    return digest.hexdigest()


def explain_os_error(error: OSError, path: Path | str) -> MachineError:
    """A failure of disk, permission or memory as a message with a next step."""
    if error.errno == errno.ENOMEM:
        return MachineError(
            f"Not enough memory at {path}. Give the job more, or run with fewer --cores; then run the "
            "same command again. Nothing half done is kept."
        )
    if error.errno == errno.EFBIG:
        return file_too_large(path)
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return MachineError(
            f"No space left while writing {path}. Free some space or write to a "
            "larger disk, then run the same command again; finished steps are kept."
        )
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return MachineError(
            f"{path} can't be written ({os.strerror(error.errno or 0)}). Make its folder writable, "
            "or write to another one."
        )
    return MachineError(f"{path}: {error.strerror or error}")


def file_too_large(path: Path | str) -> MachineError:
    """What stops a file on a disk with room: a limit of the process's, or of the file system's."""
    return MachineError(
        f"File too large: {path} has reached a limit of a file's size, though the disk may have room. "
        "Raise it (`ulimit -f unlimited`, or in the cluster's settings), or write to a file system "
        "that holds larger files (FAT ends at 4 GiB), then run the same command again; finished "
        "steps are kept."
    )


def _fsync(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


@contextmanager
def write_aside(path: Path | str) -> Iterator[Path]:
    """Yield a temporary path beside `path`, made `path` only when the block ends well.

    The block writes a file *or* makes a folder there. On any failure, Ctrl-C included, what it
    wrote is removed and `path` keeps its old content; what a killed process left is removed by the
    next that writes `path`. Disk-full and permission errors become `MachineError`.
    """
    path = Path(path)
    aside = path.with_name(f".{path.name}.{_HOST}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _remove_orphans(path)
        _remove(aside)
        yield aside
        if aside.is_dir():
            for file in aside.iterdir():
                _fsync(file)
            if path.is_dir():
                shutil.rmtree(path)
        else:
            _fsync(aside)
        os.replace(aside, path)
    except OSError as error:
        raise explain_os_error(error, path) from error
    finally:
        _remove(aside)


def nearest(path: Path | str) -> Path:
    """The folder itself, or the first above it that is there."""
    path = Path(path).absolute()
    return next(p for p in (path, *path.parents) if p.is_dir())


def free_space(path: Path | str) -> int:
    """Bytes that are free where a folder is, or where it would be made."""
    return shutil.disk_usage(nearest(path)).free


def is_alive(pid: int) -> bool:
    """Whether there is a process of that number on this machine."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):  # somebody else's, or no number of a process
        pass
    return True


def _remove_orphans(path: Path) -> None:
    """Remove what killed processes wrote aside for `path`; of other machines' only what has rested."""
    start, end = f".{path.name}.", ".tmp"
    for aside in path.parent.iterdir():
        if not (aside.name.startswith(start) and aside.name.endswith(end)):
            continue
        host, _, pid = aside.name[len(start) : -len(end)].partition(".")
        if not (len(host) == len(_HOST) and pid.isdigit()):
            continue  # of a file with a longer name
        if not is_alive(int(pid)) if host == _HOST else _rested(aside):
            _remove(aside)


def _rested(path: Path) -> bool:
    try:
        newest = max(p.stat().st_mtime for p in (path, *path.glob("*")))
    except OSError:
        return False
    return time.time() - newest > _REST


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        # A file stands where its folder should be: that is told by what tried to write.
        with suppress(NotADirectoryError):
            path.unlink(missing_ok=True)


def write_bytes(path: Path | str, data: bytes) -> None:
    """Write a whole file aside, then rename."""
    with write_aside(path) as aside:
        aside.write_bytes(data)


def write_text(path: Path | str, text: str) -> None:
    """Write a whole UTF-8 file aside, then rename."""
    write_bytes(path, text.encode("utf-8"))


class Rewrite:
    """A file's new content, block by block, beside the old one: only from where they differ on is it written."""

    def __init__(self, path: Path, aside: ExitStack, *, keep: bool) -> None:
        self._path, self._aside, self._keep = path, aside, keep
        self._digest, self._same = hashlib.sha256(), 0
        self._old: BinaryIO = io.BytesIO()
        self._new: BinaryIO | None = None
        self._is_there = False
        with suppress(OSError):
            self._old = aside.enter_context(path.open("rb"))
            self._is_there = True

    def write(self, block: bytes) -> None:
        """The content goes on with this block."""
        self._digest.update(block)
        if not self._new and self._keep and self._old.read(len(block)) != block:
            self._begin()
        if self._new:
            self._new.write(block)
        else:
            self._same += len(block)

    def sha256(self) -> str:
        """Hex SHA-256 of the new content so far."""
        return self._digest.hexdigest()

    def end(self) -> None:
        """There are no more blocks."""
        if not self._new and self._keep and (not self._is_there or self._old.read(1)):
            self._begin()

    def _begin(self) -> None:
        aside = self._aside.enter_context(write_aside(self._path))
        self._new = self._aside.enter_context(aside.open("wb"))
        self._old.seek(0)
        while self._same:
            block = self._old.read(min(self._same, 1 << 20))
            if not block:
                raise MachineError(
                    f"{self._path} became shorter while it was read. Run the same command again."
                )
            self._same -= self._new.write(block)


@contextmanager
def rewrite(path: Path | str, *, keep: bool = True) -> Iterator[Rewrite]:
    """Write a file whose content may be what it was, which then keeps its time stamp: as `write_aside`.

    Neither content is held. Without `keep` nothing is written.
    """
    with ExitStack() as stack:
        new = Rewrite(Path(path), stack, keep=keep)
        yield new
        new.end()


def write_text_if_changed(path: Path | str, text: str) -> None:
    """Write a whole UTF-8 file, if it says something else."""
    with rewrite(path) as new:
        new.write(text.encode("utf-8", "surrogateescape"))


def write_json(path: Path | str, value: Any) -> None:
    """Write JSON that people read: indented, sorted, UTF-8."""
    write_text(path, json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False) + "\n")
