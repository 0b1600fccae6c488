"""An LMDB's own folder, or the shards of which it is made: where its records are."""

from __future__ import annotations

from pathlib import Path

SHARDS = "shards"  # beside the LMDBs: the folder of what they were joined from


def parts(path: Path | str) -> list[Path]:
    """The LMDB itself or, where it is a folder of numbered ones, those in order."""
    folder = Path(path)
    found = [p for p in folder.iterdir() if p.name.isdigit()] if folder.is_dir() else []
    return sorted(found, key=lambda p: int(p.name)) or [folder]


def to_remove(path: Path | str) -> list[Path]:
    """What to remove so that the workflow makes an LMDB, or the one that it is a shard of, from nothing.

    A folder of shards is but their names: joined again, a damaged one would be as it was.
    """
    folder = Path(path)
    if folder.name.isdigit() and (folder.parents[1] / SHARDS).is_dir():
        folder = folder.parent
    joined = folder.with_name(SHARDS)
    return [folder, joined] if joined.is_dir() and parts(folder) != [folder] else [folder]


def remedy(path: Path | str) -> str:
    """What to do about a damaged LMDB."""
    return f"Remove {' and '.join(map(str, to_remove(path)))} and run the same command again."
