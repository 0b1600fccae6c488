"""Which of the forms of the config's `images` a folder or file is."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from recaffe import config
from recaffe.errors import DataError
from recaffe.images import inventory
from recaffe.images.folders import is_empty, subfolders
from recaffe.images.inventory import SPLITS

_TABLES = (".csv", ".tsv", ".parquet")
_NAMES = ("labels.txt", "label_names.txt", "classes.txt")
# What columns are called elsewhere, in small letters; the config's own names first.
_COLUMNS = {
    "path_column": ("path", "file", "filename", "file_name", "filepath", "file_path", "image",
                    "image_path", "img", "picture"),
    "label_column": ("label", "class", "class_name", "label_name", "category", "target", "species"),
    "split_column": ("split", "set", "subset", "partition"),
}  # fmt: skip


def images_of(place: Path) -> dict[str, Any]:
    """The config's `images` for a folder, a table, or a list of Caffe's: only what must be said.

    Raises `DataError` if there is nothing, a table's columns have unknown names, or a folder has but
    one class folder, which holds folders itself.
    """
    if not os.access(place, os.R_OK):
        why = "There is no" if not os.path.lexists(place) else "This user may not read"
        raise DataError(f"{why} {place.absolute()}. Give a folder of pictures, or a table.")
    if place.is_file():
        return _of_table(place) if place.suffix.lower() in _TABLES else _of_list(place)
    folders = subfolders(place)
    if (place / "train.txt").is_file() and _resolves(place / "train.txt"):
        return _of_list(place / "train.txt")
    tables = sorted(f for f in place.iterdir() if f.suffix.lower() in _TABLES and f.is_file())
    if len(folders) < 2 and len(tables) == 1:
        return _of_table(tables[0])
    if len(folders) == 1:
        inside = subfolders(place / folders[0])
        if len(inside) > 1:
            raise DataError(
                f"{place} has but one folder, {folders[0]!r}, which holds {_some(inside)}. Are these the "
                f"classes? Then: recaffe init {place / folders[0]}"
            )
    if not folders and is_empty(place):
        raise DataError(f"There are no pictures in {place.absolute()}.")
    return {"path": str(place)}


def complete(images: dict[str, Any]) -> dict[str, Any]:
    """The same with every key, as the workflow hands it to the inventory."""
    return bare(images)["images"]


def bare(images: dict[str, Any]) -> dict[str, Any]:
    """A whole config of nothing but defaults on these pictures."""
    given = {"dataset": "x", "images": images, "runs": {"a": {"weights": "none"}}}
    return config.complete(given)


def _some(names: Sequence[str]) -> str:
    return f"{', '.join(names[:5])}{', …' if len(names) > 5 else ''}"


def _of_table(table: Path) -> dict[str, Any]:
    rows = inventory.read_table(table)
    out: dict[str, Any] = {"path": str(table)}
    known = {str(c).strip().lower(): str(c) for c in rows.columns}
    for key, names in _COLUMNS.items():
        column = next((known[n] for n in names if n in known), None)
        if key == "split_column":
            if column is not None and set(rows[column]) <= set(SPLITS):
                out[key] = column
        elif column is None:
            raise DataError(
                f"{table} has the columns {', '.join(map(str, rows.columns))}, of which none is called "
                f"{' or '.join(names[:4])}. Rename one, or write the config by hand, with images.{key}."
            )
        elif column != names[0]:
            out[key] = column
    column = out.get("path_column", "path")
    return out | _root(table, map(str, rows[column].head(20)) if column in rows else ())


def _of_list(file: Path) -> dict[str, Any]:
    out: dict[str, Any] = {}
    for split in SPLITS if file.stem == "train" else ("train",):
        other = file if split == "train" else file.with_name(f"{split}{file.suffix}")
        if other.is_file():
            out[split] = {"list": str(other)} | _root(other, _paths(other))
    names = next((file.with_name(n) for n in _NAMES if file.with_name(n).is_file()), None)
    if names is not None:
        out["label_names"] = str(names)
    return out


def _paths(file: Path) -> list[str]:
    return [path for _, path, _ in islice(inventory.read_list(file), 20)]


def _resolves(file: Path) -> bool:
    """Whether it is a list of pictures that are there, and not some other text."""
    try:
        paths = _paths(file)
    except DataError:
        return False
    return any((root / path).is_file() for root in _roots(file, paths) for path in paths)


def _root(file: Path, paths: Any) -> dict[str, str]:
    """`root` where the pictures are in a folder beside the file, not in the file's own."""
    first = list(paths)
    found = next((r for r in _roots(file, first) if any((r / p).exists() for p in first)), None)
    return {} if found in (None, file.parent) else {"root": str(found)}


def _roots(file: Path, paths: Sequence[str]) -> Iterator[Path]:
    yield file.parent
    yield file.with_suffix("")
    yield from (file.parent / name for name in subfolders(file.parent))
