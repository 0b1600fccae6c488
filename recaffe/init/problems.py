"""What a person should know of the pictures before a training: one sentence each."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from recaffe.errors import DataError
from recaffe.images import decode, duplicates
from recaffe.images.folders import other_files
from recaffe.init.survey import Survey

FEWEST = 30  # pictures, below which no share of them tests anything


def check(survey: Survey) -> None:
    """Raises `DataError` for so few pictures that no training with a test can come of them."""
    usable = len(survey.items) - len(survey.bad)
    if not survey.rows:
        path, reason = survey.bad[0][0].path, survey.bad[0][1]
        raise DataError(
            f"None of the {survey.looked} files looked at is a picture that can be used. The first: "
            f"{path}: {reason}."
        )
    if usable < FEWEST:
        raise DataError(
            f"There are only {usable} pictures that can be used. Training, validation and test each want "
            f"some of every class: put together at least {FEWEST}, better 100 a class."
        )


def find(survey: Survey, images: dict[str, Any], scan: dict[str, Any]) -> list[str]:
    """All that is odd, most pressing first. `images` and `scan` are the config's, complete."""
    said = [*_unusable(survey, scan), *_twins(survey, scan), *_names(survey)]
    if images.get("path") and Path(images["path"]).is_dir():
        said += [*_beside(Path(images["path"]), survey), *_nested(survey)]
    return [*said, *_small(survey, scan), *_grey(survey)]


def _unusable(survey: Survey, scan: dict[str, Any]) -> list[str]:
    said = []
    Image.init()
    known = {e for e, f in Image.EXTENSION.items() if f in decode.FORMATS} | {""}
    others = Counter(e for i in survey.items if (e := Path(i.path).suffix.lower()) not in known)
    if others:
        kinds = ", ".join(f"{count} {end}" for end, count in others.most_common(5))
        said.append(
            f"Not pictures, by their names: {others.total():,} ({kinds}). What can't be decoded is left out."
        )
    if survey.bad:
        first = "; ".join(f"{item.path}: {reason}" for item, reason in survey.bad[:3])
        share = len(survey.bad) / survey.looked
        said.append(f"Can't be used: {len(survey.bad):,} of {survey.looked:,} ({first}).")
        if share > scan["max_rejects"]:
            said.append(
                f"That is {share:.0%}, and the run stops above scan.max_rejects ({scan['max_rejects']:.0%}): "
                "remove or mend them first."
            )
    return said


def _twins(survey: Survey, scan: dict[str, Any]) -> list[str]:
    groups = duplicates.find(survey.rows, scan["near_duplicates"])
    if not groups:
        return []
    where = "" if survey.complete else f" among the {survey.looked:,} looked at"
    count = sum(len(g.members) - 1 for g in groups)
    first = " = ".join(survey.rows[i]["path"] for i in groups[0].members[:3])
    said = [
        f"Equal or nearly equal to another picture: {count:,}{where} ({first}). They are kept out of each "
        "other's test."
    ]
    labels: dict[str, set[str]] = defaultdict(set)
    for row in survey.rows:
        labels[row["pixels"]].add(row["label"])
    if clash := [names for names in labels.values() if len(names) > 1]:
        said.append(
            f"Under two labels: {len(clash):,} (such as {' and '.join(sorted(clash[0]))}). The run stops at "
            "them: keep each under its right label."
        )
    return said


def _names(survey: Survey) -> list[str]:
    said = [
        f"The classes {' and '.join(map(repr, same))} differ only in capitals or blanks. Are they one class?"
        for same in _alike(survey.labels)
    ]
    # Of one class: classes that differ so have been named.
    by_class: dict[str, list[str]] = defaultdict(list)
    for item in survey.items:
        by_class[item.label].append(item.path)
    if files := [same for paths in by_class.values() for same in _alike(paths)]:
        said.append(
            f"Files whose names differ only in capitals: {sum(map(len, files)):,} ({' and '.join(files[0])}). "
            "Some disks keep but one of them."
        )
    return said


def _alike(names: Sequence[str]) -> list[list[str]]:
    """Groups of names that are the same but for capitals and blanks at their ends."""
    by_letters: dict[str, list[str]] = defaultdict(list)
    for name in names:
        by_letters[name.strip().casefold()].append(name)
    return [same for same in by_letters.values() if len(same) > 1]


def _beside(root: Path, survey: Survey) -> list[str]:
    """Pictures that are in no class's folder, which the inventory passes over."""
    folders = [root / s for s in survey.given] or [root]
    loose = [n for f in folders for n in other_files(f)]
    if not loose:
        return []
    return [f"Beside the class folders, in none: {len(loose):,} ({loose[0]}, …)."]


def _nested(survey: Survey) -> list[str]:
    level = 2 if survey.given else 1
    below: dict[str, set[str]] = defaultdict(set)
    flat: set[str] = set()
    for item in survey.items:
        parts = item.path.split("/")
        if len(parts) > level + 1:
            below[item.label].add(parts[level])
        else:
            flat.add(item.label)
    deep = [name for name in below if name not in flat and len(below[name]) > 1]
    if not deep:
        return []
    inside = ", ".join(sorted(below[deep[0]])[:3])
    return [
        f"The class {deep[0]!r} holds its pictures in folders of their own ({inside}, …), which all count "
        f"as {deep[0]!r}"
        + (f"; so do {len(deep) - 1} more classes" if len(deep) > 1 else "")
        + ". If those are the classes, move them one level up."
    ]


def _small(survey: Survey, scan: dict[str, Any]) -> list[str]:
    few = sorted((n, name) for name, n in survey.counts.items() if n < scan["min_per_class"])
    said = []
    if few:
        said.append(
            f"Classes of fewer than {scan['min_per_class']} pictures: {len(few)} of {len(survey.labels)} "
            f"({', '.join(f'{name}: {n}' for n, name in few[:5])}). Expect little of them."
        )
    if survey.largest > scan["max_imbalance"] * survey.smallest:
        said.append(
            f"The largest class has {survey.largest:,} pictures, the smallest {survey.smallest:,}."
        )
    return said


def _grey(survey: Survey) -> list[str]:
    grey = sum(row["grey"] for row in survey.rows)
    if not grey or grey == len(survey.rows):
        return ["All pictures are grey."] if grey else []
    by_class = Counter(row["label"] for row in survey.rows if row["grey"])
    seen = Counter(row["label"] for row in survey.rows)
    whole = [n for n in seen if by_class[n] == seen[n]]
    if whole and len(whole) < len(seen):
        return [
            f"All pictures of {', '.join(map(repr, whole[:3]))} are grey and others aren't: a net may learn "
            "that instead of what they show."
        ]
    return [f"Grey: {grey:,} of {len(survey.rows):,}."]
