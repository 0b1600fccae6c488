"""Rows of `runs` that stand for many: a grid over settings, a list of seeds; and rows that belong together.

What a row makes of each combination depends on that combination alone, so a value that is added to a
list adds runs and leaves the others as they are, name and all.
"""

from __future__ import annotations

import itertools
import math
import os
import re
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import urlsplit

from recaffe.errors import ConfigError

LONGEST = 120  # letters of a run's name, which is a folder's
# Values that say by themselves which setting they are.
_BARE = ("net", "solver", "lr_policy", "precision")
# File names that nets and weights of different folders share.
_COMMON = ("train_val", "deploy", "train", "net", "model", "weights", "final", "solver")

Row = dict[str, Any]


def expand(rows: Mapping[str, Row], most: int, folds: int = 1) -> dict[str, Row]:
    """Plain rows, in order: those with `sweep` or `seeds` become one for each combination.

    The last list changes fastest; seeds come last. `rows` have passed the schema. Raises `ConfigError`
    for more than `most` trainings, each row being one in each of the `folds`, for a setting that is given twice, and for two runs of one name.
    """
    axes = {name: _axes(name, row) for name, row in rows.items()}
    counts = {name: math.prod(len(axis) for axis in found.values()) for name, found in axes.items()}
    total = sum(counts.values()) * folds
    if any(axes.values()) and total > most:
        largest = max(counts, key=lambda name: counts[name])
        each = f" in {folds} folds" if folds > 1 else ""
        raise ConfigError(
            f"`runs` stands for {total:,} runs{each}, more than max_runs ({most}); "
            f"runs.{largest} alone for {counts[largest] * folds:,}. Shorten its lists, or raise max_runs."
        )
    made: dict[str, Row] = {}
    origin: dict[str, str] = {}
    for name, row in rows.items():
        plain = {key: value for key, value in row.items() if key not in ("sweep", "seeds")}
        for points in itertools.product(*(axis.items() for axis in axes[name].values())):
            full = "_".join([name, *(word for word, _ in points)])
            if full in made:
                raise ConfigError(
                    f"runs.{origin[full]} and runs.{name} both make a run named {full}. Rename one of them."
                )
            if points and len(full) > LONGEST:
                raise ConfigError(
                    f"runs.{name}.sweep makes a run whose name has {len(full)} letters, more than "
                    f"{LONGEST}: {full}. Name its values: a mapping NAME: VALUE instead of a list."
                )
            origin[full] = name
            made[full] = {**plain, **dict(zip(axes[name], (v for _, v in points), strict=True))}
    return made


def groups(config: Mapping[str, Any]) -> dict[str, list[str]]:
    """Runs of a completed config that differ in nothing but the seed, in order, by the group's name.

    A run that has no such sibling is a group of its own. A group is named by what its runs' names
    begin with; where that says nothing, by its first run without the seed; where that is taken, by its
    first run.
    """
    found: dict[str, list[str]] = {}
    for name, row in config["runs"].items():
        key = repr(sorted((k, v) for k, v in row.items() if k != "seed"))
        found.setdefault(key, []).append(name)
    names = [_common(members) for members in found.values()]
    singles = {members[0] for members in found.values() if len(members) == 1}
    return {
        members[0]
        if len(members) > 1 and (name in singles or names.count(name) > 1)
        else name: members
        for name, members in zip(names, found.values(), strict=True)
    }


def _common(names: list[str]) -> str:
    if len(names) == 1:
        return names[0]
    # Letter by letter, as is wanted here: they are no paths.
    prefix = os.path.commonprefix(names)  # noqa: RUF071
    begin = re.sub(r"([_.-]?seed\d*)?[_.-]*$", "", prefix)
    return begin or re.sub(r"[_.-]seed\d+$", "", names[0])


def _axes(name: str, row: Row) -> dict[str, dict[str, Any]]:
    """Setting → its values by the word that a run's name has for them."""
    lists = dict(row.get("sweep") or {})
    if "seeds" in row:
        if "seed" in lists:
            raise ConfigError(f"runs.{name}.seeds and runs.{name}.sweep.seed both list seeds.")
        seeds = row["seeds"]
        lists["seed"] = list(range(1, seeds + 1)) if isinstance(seeds, int) else seeds
    found = {}
    for key, values in lists.items():
        if key in row:
            what = "seeds" if key == "seed" and "seeds" in row else f"sweep.{key}"
            raise ConfigError(
                f"runs.{name} has {key}: {row[key]!r} and {what}, which lists others. Remove one of them."
            )
        found[key] = dict(_worded(f"runs.{name}.sweep.{key}", key, values))
    return found


def _worded(where: str, key: str, values: Any) -> Iterator[tuple[str, Any]]:
    """(word, value); a mapping brings its own words."""
    if isinstance(values, Mapping):
        yield from values.items()
        return
    seen: dict[str, Any] = {}
    for value in values:
        word = _word(key, value)
        if word in seen:
            raise ConfigError(
                f"{where} has {seen[word]!r} and {value!r}, whose runs would both be called {word}. Name "
                "them: a mapping NAME: VALUE instead of a list."
            )
        seen[word] = value
        yield word, value


def _word(key: str, value: Any) -> str:
    """A value's part of a run's name, safe for a folder."""
    if isinstance(value, bool):
        return f"{key}-{str(value).lower()}"
    if isinstance(value, int | float):
        return f"{key}{_number(value)}"
    if isinstance(value, Mapping):
        return f"{key}-{_safe('-'.join(_word(name, part) for name, part in value.items()))}"
    if isinstance(value, list):
        word = _safe("-".join(_number(v) if isinstance(v, int | float) else v for v in value))
        return f"{key}{word}" if word[0].isdigit() else f"{key}-{word}"
    word = _safe(_file(value) if key in ("net", "weights") else value)
    return word if key in _BARE else f"{key}-{word}"


def _number(value: float) -> str:
    return repr(int(value)) if value == int(value) and abs(value) < 1e9 else repr(value)


def _file(path: str) -> str:
    """What tells a file of nets or weights from others: its name, or that of its folder."""
    parts = [
        part for part in re.split(r"[/\\]", urlsplit(path).path) if part not in ("", ".", "..")
    ]
    if not parts:
        return path
    stem = re.sub(r"\.(prototxt|caffemodel|h5)$", "", parts[-1])
    return parts[-2] if stem in _COMMON and len(parts) > 1 else stem


def _safe(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9_.-]+", "-", text).strip("-") or "none"
