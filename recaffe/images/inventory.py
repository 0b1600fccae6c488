"""Which pictures there are, under which label, in which split: a stat walk, nothing decoded.

Contents are hashed only where path, size or modification time changed, and the inventory file is
rewritten only when it differs, so its digest is a function of the pictures' bytes alone.
"""

from __future__ import annotations

import csv
import os
from collections.abc import Iterable, Iterator
from itertools import chain, islice, tee
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from recaffe import digests
from recaffe.errors import DataError
from recaffe.files import rewrite, sha256
from recaffe.images import folders
from recaffe.tables import csv_blocks

if TYPE_CHECKING:
    import pandas as pd

SPLITS = ("train", "val", "test")


class Item(NamedTuple):
    """One listed picture: `path` relative to `root`, label *name*, split or "" for recaffe's own.

    Of a folder, while its pictures are still to be walked, the same.
    """

    root: str
    path: str
    split: str
    label: str

    @property
    def file(self) -> str:
        return os.path.join(self.root, self.path)  # noqa: PTH118 - str in, str out, 10 times faster than Path


class Row(NamedTuple):
    """A row of the inventory file: an item, the size of its file in bytes, and its SHA-256."""

    root: str
    path: str
    split: str
    label: str
    size: str
    sha256: str


def list_pictures(images: dict[str, Any]) -> tuple[list[Item], list[str]]:
    """All items that the config's `images` names, and the label names in label order.

    Raises `DataError` as `pictures` does.
    """
    items, labels = pictures(images)
    return list(items), labels


def pictures(images: dict[str, Any]) -> tuple[Iterator[Item], list[str]]:
    """The same one by one, ordered by split and path; folders are walked on the way.

    Raises `DataError` for a missing root, an empty or only class, a list line that can't be read,
    an unknown label, a gap in the labels, or a picture that is listed twice: before the first item.
    """
    walked = False
    if images.get("train"):
        items, labels = _from_lists(images)
    else:
        path = Path(images["path"])
        walked = path.is_dir()
        if walked:
            items, labels = _from_folder(path)
        elif path.suffix.lower() in (".csv", ".tsv", ".parquet"):
            items, labels = _from_table(path, images)
        elif path.exists():
            raise DataError(
                f"images: {path} is neither a folder nor a .csv, .tsv or .parquet table. "
                "For Caffe's list format use images.train.list."
            )
        else:
            raise DataError(
                f"images: there is no {path.absolute()}. Correct the path in the config."
            )
        if images.get("label_names"):
            labels = _read_names(images["label_names"])
            _check_known(items, labels, str(path))
    _check_classes(items, labels)
    if walked:
        return _walked(items), labels
    _check_twice(items)
    return iter(sorted(items, key=lambda i: (i.split, i.path))), labels


def take(
    images: dict[str, Any], out: Path, cache: Path, *, deep: bool = False, keep: bool = True
) -> str:
    """Bring the inventory CSV `out` and its `classes.txt` neighbour up to date.

    Returns the digest of both: the root of the whole workflow. `cache` remembers the hashes by
    path, size and modification time. With `deep` every picture is read again, whatever its time
    says; without `keep` nothing is written.
    """
    items, labels = pictures(images)
    items, again = tee(items)
    found = digests.take((item.file for item in again), cache, deep=deep, keep=keep)
    rows = ((*item, *said) for item, said in zip(items, found, strict=True))
    with rewrite(out, keep=keep) as table:
        for block in csv_blocks(chain([Row._fields], rows)):
            table.write(block)
    with rewrite(out.with_name("classes.txt"), keep=keep) as names:
        names.write("".join(f"{n}\n" for n in labels).encode("utf-8", "surrogateescape"))
    return _short(table.sha256()) + _short(names.sha256())


def digest_of(inventory: Path) -> str:
    """Digest of an inventory and its class names."""
    return "".join(_short(sha256(f)) for f in (inventory, inventory.with_name("classes.txt")))


def _short(digest: str) -> str:
    return digest[:16]


def rows(inventory: Path) -> list[Row]:
    """Rows of an inventory file."""
    with inventory.open(encoding="utf-8", newline="", errors="surrogateescape") as f:
        return [Row._make(row) for row in islice(csv.reader(f), 1, None)]


def read(path: Path) -> list[dict[str, str]]:
    """Rows of an inventory or of a table that begins like one, by their columns' names."""
    with path.open(encoding="utf-8", newline="", errors="surrogateescape") as f:
        table = csv.reader(f)
        header = next(table, [])
        return [
            dict(zip(header, row, strict=False)) for row in table if row
        ]  # DictReader takes twice as long


def read_classes(inventory: Path) -> list[str]:
    """Label names in label order, from beside an inventory."""
    return inventory.with_name("classes.txt").read_text(encoding="utf-8").splitlines()


# ---- the four forms ---------------------------------------------------------------------------


def _from_folder(root: Path) -> tuple[list[Item], list[str]]:
    top = folders.subfolders(root)
    if "train" in top and {"val", "test"} & set(top):
        splits = [split for split in SPLITS if split in top]
        classes = [item for split in splits for item in _classes(root, root / split, split)]
    else:
        classes = _classes(root, root, "")
    return classes, sorted({c.label for c in classes})


def _classes(root: Path, folder: Path, split: str) -> list[Item]:
    """Class folders, none of which is empty."""
    labels = folders.subfolders(folder)
    if not labels:
        raise DataError(
            f"images: {folder} has no class folders. recaffe wants one folder a class, "
            "with that class's pictures in it."
        )
    classes = [
        Item(str(root), f"{split}/{name}" if split else name, split, name) for name in labels
    ]
    for item in classes:
        if folders.is_empty(item.file):
            raise DataError(
                f"images: the class folder {item.file} is empty. Put pictures into it or remove it."
            )
    return classes


def _walked(classes: list[Item]) -> Iterator[Item]:
    """The pictures of class folders, in their order."""
    for c in sorted(classes, key=lambda c: (c.split, f"{c.path}/")):
        for path in folders.walk(c.file, c.path):
            yield Item(c.root, path, c.split, c.label)


def _from_lists(images: dict[str, Any]) -> tuple[list[Item], list[str]]:
    names = _read_names(images["label_names"]) if images.get("label_names") else None
    raw: list[tuple[str, str, str, int, str]] = []
    for split in SPLITS:
        if images.get(split):
            file = Path(images[split]["list"])
            root = images[split].get("root") or str(file.parent)
            if not Path(root).is_dir():
                raise DataError(f"images.{split}.root: there is no folder {Path(root).absolute()}.")
            for number, path, label in read_list(file):
                where = f"{file}, line {number}"
                _check_inside(root, path, where)
                raw.append((root, path, split, label, where))
    present = {r[3] for r in raw}
    count = len(names) if names is not None else max(present) + 1
    for _, path, _, label, where in raw:
        if label >= count:
            raise DataError(
                f"{where}: label {label} of {path!r} has no name: {images['label_names']} has "
                f"{count} names, for labels 0 to {count - 1}."
            )
    # Five at most: a list's label may be any number.
    gaps = list(islice((i for i in range(count) if i not in present), 5))
    if gaps:
        raise DataError(
            f"The lists use labels up to {count - 1}, but no line has label "
            f"{', '.join(map(str, gaps))}. Labels must run from 0 without a gap."
        )
    if names is None:
        names = [str(i) for i in range(count)]
    return [Item(root, path, split, names[label]) for root, path, split, label, _ in raw], names


def read_list(file: Path) -> Iterator[tuple[int, str, int]]:
    """Line number, path and label of each line of a list in Caffe's format.

    Raises `DataError` for a file or a line that can't be read.
    """
    try:
        lines = file.read_bytes().decode("utf-8").splitlines()
    except OSError as error:
        raise DataError(f"images: {file.absolute()}: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise DataError(
            f"{file} is not UTF-8 text ({error}). Convert it, then try again."
        ) from error
    if not any(line.strip() for line in lines):
        raise DataError(f"{file} has no lines.")
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        # The label is what follows the last white space: file names may hold blanks.
        path, _, label = line.strip().replace("\t", " ").rpartition(" ")
        path = path.rstrip()
        if not path:
            raise DataError(f"{file}, line {number}: {line!r} has no label. Write `path label`.")
        if not (label.isascii() and label.isdigit() and len(label) < 10):
            raise DataError(
                f"{file}, line {number}: the label {label!r} is not a whole number from 0. Lists "
                "hold integers; for label names use a .csv table."
            )
        yield number, path, int(label)


def read_table(path: Path) -> pd.DataFrame:
    """A .csv, .tsv or .parquet file, text as it stands; raises `DataError` if it is none."""
    import pandas as pd

    try:
        if path.suffix.lower() == ".parquet":
            return pd.read_parquet(path)
        separator = "\t" if path.suffix.lower() == ".tsv" else ","
        return pd.read_csv(path, sep=separator, dtype=str, keep_default_na=False)
    except (OSError, ValueError) as error:
        raise DataError(f"{path} can't be read as a table: {error}") from error


def _from_table(path: Path, images: dict[str, Any]) -> tuple[list[Item], list[str]]:
    table = read_table(path)
    wanted = [images["path_column"], images["label_column"]]
    wanted += [images["split_column"]] if images["split_column"] else []
    for column in wanted:
        if column not in table.columns:
            raise DataError(
                f"{path} has no column {column!r}; it has {', '.join(map(str, table.columns))}. "
                "Set images.path_column, label_column or split_column."
            )
    root = images["root"] or str(path.parent)
    if not Path(root).is_dir():
        raise DataError(f"images.root: there is no folder {Path(root).absolute()}.")
    items = []
    columns = [table[c].astype(object) for c in wanted]
    for number, row in enumerate(zip(*columns, strict=True), 2):
        values = ["" if v is None or v != v else str(v).strip() for v in row]
        where = f"{path}, row {number}"
        if not values[0] or not values[1]:
            raise DataError(f"{where}: the {wanted[0 if not values[0] else 1]!r} field is empty.")
        split = values[2] if len(values) > 2 else ""
        if split and split not in SPLITS:
            raise DataError(f"{where}: split {split!r} is not one of train, val, test.")
        if len(values) > 2 and not split:
            raise DataError(f"{where}: the {wanted[2]!r} field is empty.")
        _check_inside(root, values[0], where)
        items.append(Item(root, values[0], split, values[1]))
    if not items:
        raise DataError(f"{path} has no rows.")
    return items, sorted({i.label for i in items})


def _check_inside(root: str, path: str, where: str) -> None:
    """A relative path must stay below its root; an absolute one says openly where it leads."""
    if os.path.normpath(path).split("/")[0] == ".." and os.path.abspath(root) != "/":
        raise DataError(
            f"{where}: {path!r} leads out of the root {root}. Set images' root to a folder that holds "
            "all pictures, or write the whole path."
        )


# ---- checks -----------------------------------------------------------------------------------


def _read_names(path: str) -> list[str]:
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"images.label_names: {path} can't be read: {error}.") from error
    names = [line.strip() for line in lines if line.strip()]
    twice = sorted({n for n in names if names.count(n) > 1})
    if twice:
        raise DataError(f"{path}: the label name {twice[0]!r} stands twice.")
    return names


def _check_known(items: Iterable[Item], labels: list[str], where: str) -> None:
    known = set(labels)
    for item in items:
        if item.label not in known:
            raise DataError(
                f"{where}: {item.path!r} has the unknown label name {item.label!r}. Known are "
                f"{', '.join(labels[:10])}{' …' if len(labels) > 10 else ''}."
            )


def _check_twice(items: Iterable[Item]) -> None:
    seen: dict[str, Item] = {}
    for item in items:
        key = os.path.normpath(item.file)
        if key in seen:
            other = seen[key]
            raise DataError(
                f"The picture {item.path!r} is listed twice: as {other.label!r}"
                f"{f' in {other.split}' if other.split else ''} and as {item.label!r}"
                f"{f' in {item.split}' if item.split else ''}. Remove one of the lines."
            )
        seen[key] = item


def _check_classes(items: list[Item], labels: list[str]) -> None:
    present = {i.label for i in items}
    missing = [name for name in labels if name not in present]
    if missing:
        raise DataError(f"The class {missing[0]!r} has no pictures. Add some or remove its name.")
    if len(labels) < 2:
        raise DataError(
            f"There is only one class ({labels[0]!r}); a classifier needs at least two. "
            "Give each class a folder or a label of its own."
        )
    for name in labels:
        if not name or "\n" in name or "\r" in name:
            raise DataError(f"The label name {name!r} can't be written to labels.txt. Rename it.")
