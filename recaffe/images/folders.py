"""Folders of pictures, walked without holding more than one folder's names."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from recaffe.errors import DataError

# What file managers leave behind; never a picture.
_CLUTTER = {"thumbs.db", "desktop.ini", "__macosx"}


def subfolders(folder: Path | str) -> list[str]:
    """Names of the folders in a folder, sorted; not what systems leave behind."""
    return sorted(name for name, is_folder in _entries(folder) if is_folder is not None)


def other_files(folder: Path | str) -> list[str]:
    """Names of all else in a folder."""
    return sorted(name for name, is_folder in _entries(folder) if is_folder is None)


def walk(folder: Path | str, prefix: str) -> Iterator[str]:
    """All files in a folder and below, with `prefix` before them; not what systems leave behind.

    In the order of these texts, whatever folders they are in, so that nobody has to hold them for sorting.
    Links to folders below are not followed. Raises `DataError` for a folder that can't be read.
    """
    start = os.path.normpath(prefix)
    yield from _walk(str(folder), "" if start == "." else start.rstrip("/") + "/")


def is_empty(folder: Path | str) -> bool:
    """Whether `walk` would find no file."""
    below = []
    for name, own in _entries(folder):
        if own is None:
            return False
        if own:
            below.append(name)
    return all(is_empty(f"{folder}/{name}") for name in below)


def _walk(folder: str, prefix: str) -> Iterator[str]:
    # A folder's files have its name and a slash before them, which is what they are sorted by.
    names = sorted(
        f"{name}/" if own else name for name, own in _entries(folder) if own is not False
    )
    for name in names:
        if name.endswith("/"):
            yield from _walk(f"{folder}/{name[:-1]}", prefix + name)
        else:
            yield prefix + name


def _entries(folder: Path | str) -> Iterator[tuple[str, bool | None]]:
    """Names in a folder: True for a folder, False for a link to one, None for all else."""
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if not _is_clutter(entry.name):
                    yield entry.name, not entry.is_symlink() if _is_folder(entry) else None
    except OSError as error:
        raise DataError(f"images: {folder} can't be read: {error.strerror}.") from error


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link in a circle, say: what it is called is all that there is
        return False


def _is_clutter(name: str) -> bool:
    return name.startswith(".") or name.lower() in _CLUTTER
