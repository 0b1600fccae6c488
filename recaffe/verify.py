"""Whether a results folder still holds what the workflow wrote: every file, record and picture.

Nothing is changed. Each problem names a file and what to remove so that the workflow makes it again.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from recaffe import mean
from recaffe.errors import DataError, RecaffeError
from recaffe.evaluate import metrics, pooled, predictions
from recaffe.evaluate.pooled import FILE as FOLDS
from recaffe.files import sha256
from recaffe.folds import SHARED
from recaffe.images import inventory
from recaffe.images.inventory import SPLITS
from recaffe.lmdb import read
from recaffe.lmdb.datum import parse_datum
from recaffe.lmdb.parts import to_remove
from recaffe.lmdb.write import Entry, read_list
from recaffe.progress import progress
from recaffe.provenance import CHAIN, DATA_FILES, PAGES, RUN_FILES, SUMS, digest_of, own_sum

AGAIN = "run the same snakemake command again"
_SUM = re.compile(r"([0-9a-f]{64})  ([^/\n][^\n]*)")
# What to remove instead of a file that no rule makes by itself.
_REMOVE = {
    "data/rejected.csv": ["data/manifest.csv"],
    **{
        f"data/{s}_lmdb{x}": [f"data/{s}_lmdb", f"data/{s}_lmdb.json"]
        for s in SPLITS
        for x in ("", ".json")
    },
}
# The list of pictures is written before each run.
_LISTED = ("data/inventory.csv", "data/classes.txt")
# Snakemake makes a file again when something that needs it is to be made.
_LAST = "report.html"


@dataclass(frozen=True)
class Problem:
    """What is wrong with which file, and what to do."""

    file: str
    what: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.file}: {self.what}. {self.remedy}"


def data_sets(folder: Path) -> list[Path]:
    """The folder itself if it is a data set's, else those in it; each with its folds, if it has any.

    Raises `DataError` if there are none.
    """
    if not folder.is_dir():
        raise DataError(f"There is no folder {folder}. Name the `results` of a config.")
    found = [folder] if _is_data_set(folder) else []
    found = [p for p in found or sorted(folder.iterdir()) if _is_data_set(p)]
    if not found:
        raise DataError(
            f"{folder} holds no results: neither it nor a folder in it has a data/inventory.csv."
        )
    return [part for p in found for part in (p, *(p / fold for fold in _folds(p)))]


def _is_data_set(folder: Path) -> bool:
    return (folder / "data" / "inventory.csv").exists()


def _folds(folder: Path) -> list[str]:
    """The folds of a cross validation, each of which is a data set's folder of its own."""
    try:
        return list(json.loads((folder / FOLDS).read_text(encoding="utf-8"))["folds"])
    except (OSError, ValueError, KeyError, TypeError):
        return []


def verify(folder: Path, deep: bool = False) -> Iterator[Problem]:
    """All problems of one data set's folder, as they are found.

    `deep` also reads what lies outside, pictures included, and computes the mean again.
    """
    sums = yield from _sums(folder)
    for name, digest in sums.items():
        yield from _file(folder, name, digest)
    if (folder / FOLDS).exists():
        yield from _attempt(folder, FOLDS, _check_folds, folder)
        return
    chains = {}
    for run in sorted({n.split("/")[0] for n in sums if n.endswith(f"/{CHAIN}")}):
        chain = yield from _chain(folder, run)
        if chain:
            chains[run] = chain
            yield from _attempt(folder, f"{run}/metrics.json", _check_metrics, folder / run)
    for split in SPLITS:
        lmdb = f"data/{split}_lmdb"
        yield from _attempt(folder, lmdb, _check_records, folder / lmdb)
    for chain in list(chains.values())[:1]:
        seed = chain["config"]["split"]["seed"]
        for split in SPLITS:
            lmdb = f"data/{split}_lmdb"
            yield from _attempt(folder, lmdb, _check_list, folder / lmdb, seed)
    if deep:
        yield from _deep(folder, chains)


def _attempt(folder: Path, name: str, check: Callable[..., None], *args: Any) -> Iterator[Problem]:
    """A mistake that a check raises, as a problem."""
    try:
        check(*args)
    except (RecaffeError, OSError, ValueError, KeyError, TypeError, IndexError) as error:
        text = str(error).split(" Remove ")[0].rstrip(".").removeprefix(f"{folder / name} ")
        if isinstance(error, OSError):
            text = f"{error.filename}: {error.strerror}"
        yield Problem(str(folder / name), text or type(error).__name__, _remedy(folder, name))


def _remedy(folder: Path, name: str) -> str:
    files = [] if name in _LISTED else _REMOVE.get(name, [name])
    if name in (SUMS, *PAGES) or name.endswith(f"/{CHAIN}"):
        files = []
    paths = [str(folder / file) for file in files]
    if name.removesuffix(".json").endswith("_lmdb"):
        paths += map(str, to_remove(folder / name.removesuffix(".json")))
    paths = list(dict.fromkeys([*paths, str(folder / _LAST)]))
    listed = paths[0] if len(paths) == 1 else f"{', '.join(paths[:-1])} and {paths[-1]}"
    return f"Remove {listed}, then {AGAIN}."


# -- files


def _sums(folder: Path) -> Generator[Problem, None, dict[str, str]]:
    """Name → digest of every line of SHA256SUMS."""
    sums: dict[str, str] = {}
    try:
        text = (folder / SUMS).read_text(encoding="utf-8")
    except OSError as error:
        why = f"{error.strerror}; this run hasn't come to its end, or the file is gone"
        yield Problem(str(folder / SUMS), why, f"{AGAIN.capitalize()}.")
        return sums
    except UnicodeDecodeError:
        yield Problem(str(folder / SUMS), "it is no text", _remedy(folder, SUMS))
        return sums
    body, _, last = text.removesuffix("\n").rpartition("\n")
    if last != own_sum(f"{body}\n"):
        yield Problem(str(folder / SUMS), "it is not as it was written", _remedy(folder, SUMS))
    found = [_SUM.fullmatch(line) for line in body.split("\n")]
    sums = {match.group(2): match.group(1) for match in found if match}
    runs = [n.split("/")[0] for n in sums if n.endswith(f"/{CHAIN}")]
    wanted = [*(f"data/{n}" for n in DATA_FILES), *(f"{r}/{n}" for r in runs for n in RUN_FILES)]
    if (folder / FOLDS).exists():
        wanted = [*(f"data/{n}" for n in SHARED), FOLDS]
    for name in [*wanted, *PAGES]:
        if name not in sums:
            yield Problem(str(folder / SUMS), f"it lacks {name}", _remedy(folder, SUMS))
    return sums


def _file(folder: Path, name: str, digest: str) -> Iterator[Problem]:
    try:
        if sha256(folder / name) != digest:
            what = f"it has changed since the report was written ({SUMS} has another digest)"
            yield Problem(str(folder / name), what, _remedy(folder, name))
    except OSError as error:
        yield Problem(
            str(folder / name), error.strerror or "it can't be read", _remedy(folder, name)
        )


def _chain(folder: Path, run: str) -> Generator[Problem, None, dict[str, Any] | None]:
    """A run's provenance, whose digests must be those of the files."""
    path = folder / run / CHAIN
    try:
        chain: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        files = {entry["file"]: entry["sha256"] for entry in chain["files"]}
        chain["config"]["split"]["seed"], chain["inputs"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        yield Problem(str(path), f"it can't be read ({error})", _remedy(folder, f"{run}/{CHAIN}"))
        return None
    for name, digest in files.items():
        try:
            own = digest_of(folder, name)
        except (OSError, ValueError, KeyError, TypeError):
            own = ""
        if own != digest:
            what = f"it isn't what {run} was made from ({path} has another digest)"
            yield Problem(str(folder / name), what, _remedy(folder, name))
    return chain


def _check_folds(folder: Path) -> None:
    said = json.loads((folder / FOLDS).read_text("utf-8"))
    for run, found in said["runs"].items():
        if pooled.run_of(folder, run, said["folds"])["metrics"] != found:
            raise DataError("its numbers don't follow from the folds' predictions")


def _check_metrics(run: Path) -> None:
    table = predictions.read(run / "predictions.csv")
    if json.loads((run / "metrics.json").read_text("utf-8")) != metrics.compute(table):
        raise DataError("its numbers don't follow from predictions.csv")


# -- LMDBs


def _check_records(lmdb: Path) -> None:
    note = json.loads(lmdb.with_name(f"{lmdb.name}.json").read_text("utf-8"))
    found = read.describe(lmdb, read.digests(lmdb, f"check {lmdb.name}"))
    if any(note[key] != value for key, value in found.items()):
        raise DataError(f"its records aren't those that {lmdb.name}.json speaks of")


def _check_list(lmdb: Path, seed: int) -> None:
    """The list and the LMDB name the same records, with the same labels, in the same order."""
    split = lmdb.name.removesuffix("_lmdb")
    entries = read_list(lmdb.with_name(f"{split}.txt"), seed)
    note = json.loads(lmdb.with_name(f"{lmdb.name}.json").read_text("utf-8"))
    if note["records"] != len(entries):
        raise DataError(f"its note speaks of {note['records']} records, the list of {len(entries)}")
    labels = len(inventory.read_classes(lmdb.parent / "inventory.csv"))
    with read.open_records(lmdb) as found:
        if len(found) != len(entries):
            raise DataError(f"it has {len(found)} records, the list {len(entries)} lines")
        for (key, value), entry in zip(found, entries, strict=True):
            _check_record(bytes(key), value, entry, labels)


def _check_record(key: bytes, value: memoryview, entry: Entry, labels: int) -> None:
    if key != entry.key.encode():
        raise DataError(f"the record {key!r} stands where the list has {entry.path}")
    label = parse_datum(value, f"the record of {entry.path}").label
    if label != entry.label or not 0 <= label < labels:
        raise DataError(f"{entry.path} has the label {label}, and {entry.label} in the list")


# -- what --deep reads


def _deep(folder: Path, chains: dict[str, dict[str, Any]]) -> Iterator[Problem]:
    yield from _attempt(folder, "data/mean.binaryproto", _check_mean, folder / "data")
    # A package is known by its digest, and may have gone since.
    given = [i for chain in chains.values() for i in chain["inputs"] if "file" in i]
    for name, digest in {i["file"]: i["sha256"] for i in given}.items():
        yield from _outside(Path(name), digest)
    try:
        rows = inventory.read(folder / "data" / "inventory.csv")
    except (OSError, ValueError):
        return
    for row in progress(rows, len(rows), "pictures", "img"):
        if row.get("sha256"):  # "" stands for one that couldn't be read, and was rejected
            yield from _outside(Path(row["root"] or ".") / row["path"], row["sha256"])


def _check_mean(data: Path) -> None:
    if not np.array_equal(mean.read(data / "mean.binaryproto"), mean.compute(data / "train_lmdb")):
        raise DataError("it isn't the mean of data/train_lmdb")


def _outside(path: Path, digest: str) -> Iterator[Problem]:
    again = f"Put the right file back, or {AGAIN} for results of the new one."
    try:
        if sha256(path) != digest:
            yield Problem(str(path), "it isn't what the results were made from", again)
    except (OSError, ValueError) as error:
        what = getattr(error, "strerror", None) or "it can't be read"
        where = "" if path.is_absolute() else " (seen from the folder where snakemake ran)"
        yield Problem(str(path), f"{what}{where}", again)
