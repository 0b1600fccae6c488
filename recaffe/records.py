"""Snakemake's own notes on how each output was made, which it keeps by path in .snakemake/.

What has no note counts as made with the present settings, whatever it was made with. So results
that were moved take their notes along, and results without notes are made anew.
"""

from __future__ import annotations

import json
import os
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from recaffe.files import write_text, write_text_if_changed

_NOTES, _STARTED = Path(".snakemake/metadata"), Path(".snakemake/incomplete")
_HOME = ".home"


def settle(results: str, outputs: Sequence[str], root: str) -> str:
    """Make the notes of a results folder fit where it stands now; called before the DAG is decided.

    If one of `outputs` is there without a note, what all follows from, the file `root`, gets the
    present date, so that Snakemake makes everything anew. Returns a line that says what was done, or "".
    """
    home = Path(results, _HOME)
    was = home.read_text(encoding="utf-8").strip() if home.is_file() else results
    said = ""
    if was != results and (moved := _move(was, results)):
        said = f"{was} was moved or copied to {results}: its {moved} notes go with it."
    unknown = [out for out in outputs if Path(out).exists() and not _is_noted(out)]
    if unknown and Path(root).exists():
        Path(root).touch()
        said = (
            f"{unknown[0]} is there, but .snakemake/ has no note of how it was made. So all is made "
            "anew, trainings from their snapshots."
        )
    write_text_if_changed(home, f"{results}\n")
    return said


def _is_noted(output: str) -> bool:
    return any(_file(folder, output).exists() for folder in (_NOTES, _STARTED))


def _move(old: str, new: str) -> int:
    """Rewrite the notes of all files below `old`, settings aside, to `new`; returns how many.

    Where `old` is still there, `new` is a copy, and the notes are doubled. A note that a kill left
    half written is none, as Snakemake takes it; the mark beside it says that its step is to be done again.
    """
    count, copied = 0, Path(old).is_dir()
    for folder in (_NOTES, _STARTED):
        for path, key in list(_notes(folder)):
            if not key.startswith(f"{old}/"):
                continue
            text = path.read_text(encoding="utf-8")
            if folder == _NOTES:
                try:
                    text = _rewritten(json.loads(text), old, new)
                except ValueError:
                    continue
                count += 1
            write_text(_file(folder, _renamed(key, old, new)), text)
            if not copied:
                path.unlink()
    return count


def _rewritten(note: dict[str, Any], old: str, new: str) -> str:
    for name in ("input", "log"):
        note[name] = sorted(_renamed(value, old, new) for value in note.get(name) or ())
    sums = note.get("input_checksums") or {}
    note["input_checksums"] = {_renamed(k, old, new): v for k, v in sums.items()}
    return json.dumps(note)


def _renamed(path: str, old: str, new: str) -> str:
    return new + path[len(old) :] if path.startswith(f"{old}/") else path


def _notes(folder: Path) -> Iterator[tuple[Path, str]]:
    for here, _, names in os.walk(folder):
        for name in names:
            path = Path(here, name)
            code = "".join(part.removeprefix("@") for part in path.relative_to(folder).parts)
            try:
                yield path, urlsafe_b64decode(code).decode()
            except ValueError:
                continue


def _file(folder: Path, key: str) -> Path:
    """Where Snakemake keeps its note on `key`: long names are cut into folders, marked by an @."""
    code = urlsafe_b64encode(key.encode()).decode()
    most = os.pathconf(folder if folder.exists() else ".", "PC_NAME_MAX") - 1
    parts = [code[i : i + most] for i in range(0, len(code), most)]
    return folder.joinpath(*(f"@{part}" for part in parts[:-1]), parts[-1])
