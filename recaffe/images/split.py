"""Manifest → train.txt, val.txt, test.txt, labels.txt: a seeded function of the content.

A picture's place follows from its own content and the seed alone, so no other picture that comes
or goes can move it. Each class is cut at the same shares of a uniform hash, so the split is
stratified up to chance. Of a group of twins, those that would land beyond the split of the
group's representative are left out: rather a picture less than a twin of a test picture in
training.

In cross validation the same number says in which fold a picture is tested, and in which it validates. Each is
tested in one; a twin that is tested elsewhere is left out of that fold's training.
"""

from __future__ import annotations

import csv
import hashlib
import io
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from recaffe import folds, tables
from recaffe.errors import DataError
from recaffe.files import write_json, write_text
from recaffe.images import duplicates, inventory, scan
from recaffe.images.inventory import SPLITS
from recaffe.tables import cell_of

Row = dict[str, str]


@dataclass
class Split:
    """`place` holds train, val, test or "" (left out) for each manifest row."""

    place: list[str]
    groups: list[duplicates.Group]
    reasons: dict[int, str] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)


def record_key(path: str, seed: int, copy: int = 0) -> str:
    """`hash8_path`: shuffled, stable under additions, at most LMDB's 511 bytes.

    `copy` numbers the repetitions of an oversampled picture.
    """
    name = f"{path}#{copy}" if copy else path
    digest = hashlib.sha256(f"{seed}:{name}".encode()).hexdigest()
    key = f"{digest[:8]}_{name}"
    return key if len(key.encode()) <= 511 else f"{digest[:8]}_{digest}"


def shard_of(key: str, shards: int) -> int:
    """Which of so many shards a record is in: ranges of keys, of about the same number of records."""
    return int(key[:8], 16) * shards >> 32


def assign(rows: Sequence[Row], shares: dict[str, Any], bits: int, allow_conflicts: bool) -> Split:
    """Place each row. `shares` is the config's `split`, `bits` its scan.near_duplicates.

    In cross validation `shares` has `fold`, (which, of how many), instead of `test`. Raises `DataError` if
    the same pixels stand under two labels and `allow_conflicts` is off.
    """
    groups = duplicates.find(rows, bits)
    given = {row["split"] for row in rows} - {""}
    if "fold" in shares:
        folds.refuse_given(given)
    place = [_own_place(row, shares, given) for row in rows]
    split = Split(place, groups)
    conflicts = _conflicts(rows, groups)
    if conflicts and not allow_conflicts:
        lines = "\n".join(
            "  " + " = ".join(f"{rows[i]['path']} ({rows[i]['label']})" for i in group)
            for group in conflicts[:10]
        )
        raise DataError(
            f"{len(conflicts)} pictures stand under two labels:\n{lines}\nKeep each under its right "
            "label, or set scan.allow_label_conflicts to leave all of them out."
        )
    for conflict in conflicts:
        for i in conflict:
            place[i] = ""
            split.reasons[i] = "the same picture has another label elsewhere"
    for group in groups:
        _keep_together(rows, split, group, shares)
    return split


def _own_place(row: Row, shares: dict[str, Any], given: set[str]) -> str:
    if row["split"] in ("val", "test"):
        return row["split"]
    if "fold" in shares:
        return _place_in_fold(_number(row, shares["seed"]), shares["val"], *shares["fold"])
    u = _uniform(row, shares["seed"])
    test = 0.0 if "test" in given else shares["test"]
    val = 0.0 if "val" in given else shares["val"]
    return "test" if u < test else "val" if u < test + val else "train"


def _place_in_fold(number: int, val: float, fold: int, count: int) -> str:
    """Where a picture of that number, of 64 bits, goes in one of so many folds, which count from 1.

    The numbers are a circle that each fold enters an equal arc later: what is in the first such arc is
    tested, so each picture in one fold, and the share `val` of the circle behind it validates.
    """
    whole = 1 << 64  # an arc, in units that make all of them whole numbers
    along = (number * count - (fold - 1) * whole) % (count * whole)
    if along < whole:
        return "test"
    return "val" if along < whole + int(val * count * whole) else "train"


def _uniform(row: Row, seed: int) -> float:
    """The row's own number in [0, 1)."""
    return _number(row, seed) / 2**64


def _number(row: Row, seed: int) -> int:
    """The row's own number of 64 bits. Pictures that look the same share it."""
    plain = sum(b.bit_count() for b in bytes.fromhex(row["phash"])) < 16  # no texture to tell by
    content = row["pixels"] if plain else row["phash"]
    digest = hashlib.sha256(f"{seed}:{content}".encode()).digest()
    return int.from_bytes(digest[:8], "big")


def _conflicts(rows: Sequence[Row], groups: Sequence[duplicates.Group]) -> list[list[int]]:
    found = []
    for group in groups:
        by_pixels: dict[str, list[int]] = {}
        for i in group.members:
            by_pixels.setdefault(rows[i]["pixels"], []).append(i)
        found += [g for g in by_pixels.values() if len({rows[i]["label"] for i in g}) > 1]
    return found


def _keep_together(
    rows: Sequence[Row], split: Split, group: duplicates.Group, shares: dict[str, Any]
) -> None:
    members = [i for i in group.members if split.place[i]]
    fixed = [
        i
        for i in members
        if rows[i]["split"] in ("val", "test") or ("fold" in shares and split.place[i] == "test")
    ]
    if len({split.place[i] for i in members}) < 2:
        return
    if fixed:  # val and test lists are taken as they are, and so is what a fold tests
        home = "test" if any(split.place[i] == "test" for i in fixed) else "val"
        twin = next(i for i in fixed if split.place[i] == home)
    else:
        twin = min(members, key=lambda i: (_uniform(rows[i], ~shares["seed"]), rows[i]["path"]))
        home = split.place[twin]
    for i in members:
        if i in fixed:
            if split.place[i] != home:
                split.warnings.append(
                    f"{rows[i]['path']} ({split.place[i]}) is a twin of {rows[twin]['path']} "
                    f"({home}); both lists are kept as given."
                )
        elif split.place[i] != home:
            split.reasons[i] = f"twin of {rows[twin]['path']}, which is in {home}"
            split.place[i] = ""


def write(
    manifest: Path, inventory_file: Path, rejected: Path, out: Path, config: dict[str, Any]
) -> Split:
    """Write the lists, labels.txt, classes.csv, duplicates.csv and lists.json into folder `out`.

    List lines are `path label`, in the order of the LMDB's keys. Paths start from lists.json's
    `root`, as `convert_imageset ROOT/ LIST` wants them. A fold's folder also gets links to what all
    folds have in common.

    Raises `DataError` for an empty validation or test set or a class without training pictures.
    """
    if "fold" in config["split"]:
        folds.share(manifest.parent, out)
    rows = scan.read_manifest(manifest)
    labels = inventory.read_classes(inventory_file)
    shares, settings = config["split"], config["scan"]
    split = assign(rows, shares, settings["near_duplicates"], settings["allow_label_conflicts"])
    counts = {
        s: Counter(r["label"] for r, p in zip(rows, split.place, strict=True) if p == s)
        for s in SPLITS
    }
    _check(labels, counts, settings, split.warnings, shares.get("fold"))
    roots = {row["root"] for row in rows}
    root = roots.pop() if len(roots) == 1 else "."
    index = {name: i for i, name in enumerate(labels)}
    for s in SPLITS:
        entries = [
            (
                row["path"]
                if root != "." or row["root"] == "."
                else str(Path(row["root"]) / row["path"]),
                row["label"],
            )
            for row, place in zip(rows, split.place, strict=True)
            if place == s
        ]
        if s == "train" and shares["oversample"]:
            entries = _oversample(entries, counts[s])
        keyed = sorted(_keyed(entries, shares["seed"]))
        write_text(
            out / f"{s}.txt", "".join(f"{path} {index[label]}\n" for _, path, label in keyed)
        )
    write_text(out / "labels.txt", "".join(f"{name}\n" for name in labels))
    bad = Counter(r["label"] for r in tables.rows(rejected))
    left_out = Counter(r["label"] for r, p in zip(rows, split.place, strict=True) if not p)
    _write_csv(
        out / "classes.csv",
        ("label", "name", *SPLITS, "left_out", "rejected"),
        [
            (i, name, *(counts[s][name] for s in SPLITS), left_out[name], bad[name])
            for i, name in enumerate(labels)
        ],
    )
    _write_csv(
        out / "duplicates.csv",
        ("group", "kind", "path", "label", "split", "note"),
        [
            (
                n,
                "exact" if g.exact else "near",
                rows[i]["path"],
                rows[i]["label"],
                split.place[i] or "left out",
                split.reasons.get(i, ""),
            )
            for n, g in enumerate(split.groups)
            for i in g.members
        ],
    )
    write_json(out / "lists.json", {"root": root, "warnings": split.warnings})
    return split


def _keyed(entries: list[tuple[str, str]], seed: int) -> list[tuple[str, str, str]]:
    seen: Counter[str] = Counter()
    out = []
    for path, label in entries:
        out.append((record_key(path, seed, seen[path]), path, label))
        seen[path] += 1
    return out


def _oversample(entries: list[tuple[str, str]], counts: Counter[str]) -> list[tuple[str, str]]:
    """Repeat each class's pictures, whole rounds first, until all are as large as the largest."""
    top = max(counts.values())
    out = list(entries)
    for label in sorted(counts):
        own = sorted(e for e in entries if e[1] == label)
        while len(own) and sum(e[1] == label for e in out) < top:
            out += own[: top - sum(e[1] == label for e in out)]
    return out


def _check(
    labels: list[str],
    counts: dict[str, Counter[str]],
    settings: dict[str, Any],
    warnings: list[str],
    fold: Sequence[int] | None = None,
) -> None:
    where = f" in fold {fold[0]} of {fold[1]}" if fold else ""
    for s in ("val", "test"):
        if not counts[s] and fold:
            what = "Raise split.val" if s == "val" else "Lower split.folds"
            raise DataError(f"No picture falls into the {s} set{where}. {what}, or add pictures.")
        if not counts[s]:
            raise DataError(
                f"No picture falls into the {s} set. Raise split.{s}, give a {s} list, or add pictures."
            )
    for name in labels:
        if not counts["train"][name]:
            raise DataError(
                f"The class {name!r} has no picture to train on{where} (rejected or left out ones don't "
                "count). Add pictures to it or remove it."
            )
        for s in ("val", "test"):
            if not counts[s][name]:
                warnings.append(f"The class {name!r} has no picture in the {s} set.")
        total = sum(counts[s][name] for s in SPLITS)
        if total < settings["min_per_class"]:
            warnings.append(f"The class {name!r} has only {total} pictures.")
    sizes = [counts["train"][name] for name in labels]
    if max(sizes) > settings["max_imbalance"] * min(sizes):
        warnings.append(
            f"The largest class has {max(sizes)} training pictures, the smallest {min(sizes)}; "
            "split.oversample evens that out."
        )


def _write_csv(path: Path, header: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows([cell_of(x) if isinstance(x, str) else x for x in row] for row in rows)
    write_text(path, text.getvalue())
