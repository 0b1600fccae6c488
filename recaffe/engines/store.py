"""A folder of snapshots: which of them are whole, which is the newest, which are kept.

A snapshot counts only once its .json stands, which is written last and holds the digests of both
files and of itself; so a kill at any moment leaves the one before. The best weights on the
validation set are kept under the iteration's number for as long as a snapshot refers to them.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import math
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from recaffe.errors import TrainError
from recaffe.files import sha256, write_json
from recaffe.script import tell

KEEP = 2


@dataclass(frozen=True)
class Files:
    """The three files of a snapshot."""

    model: Path
    state: Path
    extra: Path


@contextmanager
def alone(folder: Path | None) -> Iterator[None]:
    """Hold a folder of snapshots for one training; raises `TrainError` if another one has it."""
    if folder is None:
        yield
        return
    with held(folder, "Another training writes its snapshots to"):
        yield


@contextmanager
def held(folder: Path, who: str) -> Iterator[None]:
    """Hold a folder; raises `TrainError` that begins with `who` if another process has it."""
    folder.mkdir(parents=True, exist_ok=True)
    lock = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise TrainError(f"{who} {folder}. Wait until it ends, or stop it.") from error
        except OSError:
            pass  # a disk that knows no locks
        yield
    finally:
        os.close(lock)


class Store:
    """The snapshots of one job, in one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._broken: set[int] = set()  # passed over, and not to be counted among those kept
        folder.mkdir(parents=True, exist_ok=True)

    def files(self, iteration: int) -> Files:
        """Where the snapshot of an iteration stands: HDF5 if that is there, else binary."""
        stem = self.stem(iteration)
        suffix = ".h5" if stem.with_suffix(".solverstate.h5").exists() else ""
        return Files(
            stem.with_suffix(f".caffemodel{suffix}"),
            stem.with_suffix(f".solverstate{suffix}"),
            stem.with_suffix(".json"),
        )

    def best(self, iteration: int) -> Path:
        """Where the best weights of that iteration stand."""
        return self.folder / f"best_iter_{iteration}.caffemodel"

    def iterations(self) -> list[int]:
        """Numbers of all snapshots that say they are complete, newest first."""
        found = [re.fullmatch(r"snap_iter_(\d+)\.json", p.name) for p in self.folder.iterdir()]
        return sorted((int(m.group(1)) for m in found if m), reverse=True)

    def note(self, files: Files, iteration: int, extra: dict[str, Any]) -> None:
        """Vouch for a snapshot whose files stand; older ones beyond the last two go."""
        digests = {f.name: sha256(f) for f in (files.model, files.state)}
        whole = {**extra, "iteration": iteration, "sha256": digests}
        write_json(files.extra, {**whole, "checksum": _checksum(whole)})
        self._broken.discard(iteration)
        self._prune(int(extra["best"]["iteration"]))

    def newest(self, upto: float = math.inf) -> dict[str, Any] | None:
        """The newest whole snapshot's .json; broken ones are passed over and named.

        Those beyond the iteration `upto` are removed: the table of a shorter run doesn't reach them.
        """
        for iteration in self.iterations():
            if iteration > upto:
                self._remove(iteration)
                continue
            problem = self._problem(iteration)
            if problem is None:
                return _read(self.files(iteration).extra)
            tell(f"{self.folder}: snapshot {iteration} is passed over: {problem}.")
            self._broken.add(iteration)
        return None

    def _problem(self, iteration: int) -> str | None:
        files = self.files(iteration)
        try:
            extra = _read(files.extra)
            for name, digest in extra["sha256"].items():
                if sha256(self.folder / name) != digest:
                    return f"{name} has changed since it was written"
            best = extra["best"]
            if best["iteration"] >= 0 and sha256(self.best(best["iteration"])) != best["sha256"]:
                return f"{self.best(best['iteration']).name} has changed since it was written"
        except OSError as error:
            return f"{error.filename}: {error.strerror}"
        except (ValueError, KeyError, TypeError) as error:
            return f"{files.extra.name} is broken ({error})"
        return None

    def _prune(self, best_now: int) -> None:
        kept, needed = 0, {best_now}
        for iteration in self.iterations():
            best = self._best_of(iteration)
            if best is not None and kept < KEEP:
                kept += 1
                needed.add(best)
                continue
            self._remove(iteration)
        for path in self.folder.glob("best_iter_*.caffemodel"):
            if int(path.stem.rsplit("_", 1)[1]) not in needed:
                path.unlink()

    def _remove(self, iteration: int) -> None:
        # The .json first: it vouches for the others.
        for suffix in ("json", "caffemodel", "solverstate", "caffemodel.h5", "solverstate.h5"):
            self.stem(iteration).with_suffix(f".{suffix}").unlink(missing_ok=True)

    def _best_of(self, iteration: int) -> int | None:
        """The iteration of the best weights that a snapshot refers to; None for a broken one."""
        if iteration in self._broken:
            return None
        try:
            return int(_read(self.files(iteration).extra)["best"]["iteration"])
        except (OSError, ValueError):
            return None

    def stem(self, iteration: int) -> Path:
        """Where a snapshot's files stand, but for their suffixes."""
        return self.folder / f"snap_iter_{iteration}"


def _read(path: Path) -> dict[str, Any]:
    """A snapshot's .json; raises `OSError` or `ValueError` if it isn't as it was written."""
    extra = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(extra, dict) or extra.pop("checksum", None) != _checksum(extra):
        raise ValueError("its checksum is wrong")
    return extra


def _checksum(extra: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(extra, sort_keys=True).encode()).hexdigest()
