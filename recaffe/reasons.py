"""Why a rule would run again, in words: Snakemake's reasons, and what its records say of the last run."""

from __future__ import annotations

import ast
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from recaffe import tables
from recaffe.images import inventory

_SHOWN = 5
# What patch reads from the user, in the order in which rules/net.smk lists it.
_FILES = ("the net's prototxt", "the weights")


def of_params(old: Sequence[str], new: Sequence[str], data: Path) -> list[str]:
    """What differs between two sets of a rule's params, each the `repr` of its value.

    `data` is the folder of the inventory and of the last manifest, which say more about pictures.
    """
    before, olds = _settings(old)
    after, news = _settings(new)
    words = []
    if olds != news:
        words += pictures(data) or [f"{', '.join(olds)} → {', '.join(news)}"]
    said, hidden = _runs(before, after)
    words += said
    for key in sorted(set(before) | set(after), key=str):
        was, now = before.get(key, "nothing"), after.get(key, "nothing")
        if was == now or key in hidden or key == "pictures" or key.startswith("versions."):
            continue  # said by the steps that they are about
        if key == "stage":
            words.append(f"the code of this stage has changed (version {was} → {now})")
        elif key == "files":
            words += _files(was, now) if "net" in after else []
        else:
            words.append(f"{key}: {_value(was)} → {_value(now)}")
    return words


def pictures(data: Path) -> list[str]:
    """How the pictures differ from those of the last scan."""
    manifest, rejected = data / "manifest.csv", data / "rejected.csv"
    if not manifest.is_file() or not (data / "inventory.csv").is_file():
        return []
    old = {row["path"]: row for row in inventory.read(manifest)}
    bad = {row["path"] for row in tables.rows(rejected)} if rejected.is_file() else set()
    new = {row["path"]: row for row in inventory.read(data / "inventory.csv")}
    added = [p for p in new if p not in old and p not in bad]
    gone = [p for p in old if p not in new] + [p for p in bad if p not in new]
    renamed = _renamed(added, gone, old, new)
    added = [p for p in added if p not in renamed.values()]
    gone = [p for p in gone if p not in renamed]
    kept = [p for p in new if p in old]
    changed = [p for p in kept if old[p]["sha256"] != new[p]["sha256"]]
    labels = [
        f"{p} ({old[p]['label']} → {new[p]['label']})"
        for p in kept
        if old[p]["label"] != new[p]["label"]
    ]
    splits = [p for p in kept if old[p]["split"] != new[p]["split"]]
    moves = [f"{was} → {now}" for was, now in renamed.items()]
    found = (
        (added, "added"), (gone, "removed"), (moves, "renamed"), (changed, "changed"),
        (labels, "under another label"), (splits, "in another list"),
    )  # fmt: skip
    return [_counted(paths, what) for paths, what in found if paths] or [
        "the pictures or the order of the labels have changed"
    ]


def of_job(
    reason: Any, outputs: Sequence[str], upstream: Sequence[str], told: bool = False
) -> list[str]:
    """Snakemake's own reasons, params aside; `upstream` are the names of jobs that run before.

    `told`: the params have said already what is new in the inventory.
    """
    if outputs and not any(Path(out).exists() for out in outputs):
        return ["not made yet"]
    words = []
    if reason.forced:
        words.append("forced")
    if reason.missing_output:
        words.append(f"{_some(sorted(map(str, reason.missing_output)))} missing")
    if reason.incomplete_output:
        words.append(f"{_some(sorted(map(str, reason.incomplete_output)))} half done")
    files = reason.updated_input - reason.updated_input_run
    if told:
        files = {f for f in files if Path(f).name != "inventory.csv"}
    if files:
        words.append(f"{_some(sorted(map(str, files)))} changed since")
    if reason.code_changed:
        words.append("its script is newer than its results")
    if reason.software_stack_changed:
        words.append("another container or environment")
    if upstream:
        words.append(f"after {_some(upstream)}")
    elif reason.input_changed:
        words.append("it reads other files than before")
    return words


def continues(words: Sequence[str], params: Sequence[str], upstream: Sequence[str]) -> bool:
    """Whether a training goes on from its last snapshot, when its solver has these reasons to change."""
    if upstream or not words or not all(w.startswith(("epochs:", "max_iter:")) for w in words):
        return False
    now, _ = _settings(params)
    policy = now["lr_policy"]
    return not (policy == "poly" or (policy in ("step", "sigmoid") and not now["step_epochs"]))


def _settings(params: Sequence[str]) -> tuple[dict[str, Any], list[str]]:
    """The JSON params, flat, without the names `run` and `config`; and all others."""
    flat: dict[str, Any] = {}
    others = []
    for text in params:
        value = ast.literal_eval(text)
        try:
            tree = json.loads(value)
        except (TypeError, ValueError):
            others.append(str(value))
            continue
        if isinstance(tree, dict):
            flat.update(_flat(tree, ()))
        else:
            others.append(str(value))
    return flat, sorted(others)


def _runs(before: Mapping[str, Any], after: Mapping[str, Any]) -> tuple[list[str], set[str]]:
    """Runs that were added or removed, and the keys that need no more words.

    Those are the runs' own, and those of `train` that say what a run's say.
    """
    old, new = (
        {k.split(".")[1] for k in keys if k.startswith("runs.")} for keys in (before, after)
    )
    words, hidden = [], set()
    for names, what in ((new - old, "added"), (old - new, "removed")):
        if names:
            words.append(f"run {_some(sorted(names))} {what}")
    for key in {*before, *after}:
        first, _, rest = key.partition(".")
        if first in ("runs", "weights"):
            said = rest.partition(".")[0] in old ^ new
        else:
            own = [f"runs.{run}.{rest}" for run in old & new]
            said = first == "train" and any(before.get(k) != after.get(k) for k in own)
        if said:
            hidden.add(key)
    return words, hidden


def _flat(tree: dict[str, Any], above: tuple[str, ...]) -> Iterator[tuple[str, Any]]:
    for key, value in tree.items():
        path = above if key in ("run", "config") and not above else (*above, key)
        if isinstance(value, dict) and value:
            yield from _flat(value, path)
        else:
            yield ".".join(path), value


def _renamed(
    added: Sequence[str], gone: Sequence[str], old: dict[str, Any], new: dict[str, Any]
) -> dict[str, str]:
    by_content = {new[p]["sha256"]: p for p in added}
    found = {}
    for path in gone:
        twin = by_content.pop(old[path]["sha256"], "") if path in old else ""
        if twin:
            found[path] = twin
    return found


def _counted(paths: Sequence[str], what: str) -> str:
    noun = "picture" if len(paths) == 1 else "pictures"
    return f"{len(paths)} {noun} {what}: {_some(sorted(paths))}"


def _some(names: Sequence[str]) -> str:
    unique = list(Counter(names))
    more = len(unique) - _SHOWN
    return ", ".join(unique[:_SHOWN]) + (f" and {more} more" if more > 0 else "")


def _files(was: Any, now: Any) -> list[str]:
    if not isinstance(was, list) or len(was) != len(now) or len(now) > len(_FILES):
        return []
    pairs = zip(_FILES, was, now, strict=False)
    return [f"the content of {name} has changed" for name, a, b in pairs if a != b]


def _value(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else f"{text[:57]}…"
