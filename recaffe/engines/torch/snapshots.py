"""Snapshots: caffemodel and solverstate as Caffe writes them, and what Caffe forgets beside them.

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
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from recaffe.engines.torch.net import Net
from recaffe.engines.torch.solvers import Solver
from recaffe.errors import TrainError, WeightsError
from recaffe.files import sha256, write_json
from recaffe.net import weights
from recaffe.net.state import State, read_state, write_state
from recaffe.proto import caffe_pb2 as pb
from recaffe.script import tell

KEEP = 2


def restore_from(solverstate: Path, net: Net, solver: Solver, model: Path | None = None) -> int:
    """Go on from a solverstate that Caffe or recaffe wrote; returns the iteration it was written at.

    The weights are those of the caffemodel that the state names, from here or from beside the
    solverstate (a folder of snapshots may have been moved), or of `model`; a state that names none
    leaves the net's weights alone, as in Caffe.

    Raises `WeightsError` if a file is missing or broken, or belongs to another net or solver.
    """
    state = read_state(solverstate)
    _check_history(state, solver, solverstate)
    model = model or _model_of(state, solverstate)
    if model is not None:
        net.load(weights.read(model, net.layers))
    history = [torch.from_numpy(np.array(h)) for h in state.history]
    shaped = [h.reshape(own.shape) for h, own in zip(history, solver.history, strict=True)]
    solver.restore(shaped, (state.iteration, state.current_step))
    return state.iteration


def write_snapshot(net: Net, solver: Solver, iteration: int, stem: Path) -> tuple[Path, Path]:
    """Write STEM.caffemodel and STEM.solverstate, or both with .h5, as the solver's snapshot_format
    says; returns their paths. Caffe's own stem is `{snapshot_prefix}_iter_{iteration}`."""
    suffix = ".h5" if solver.p.snapshot_format == pb.SolverParameter.HDF5 else ""
    model = stem.with_name(f"{stem.name}.caffemodel{suffix}")
    state = stem.with_name(f"{stem.name}.solverstate{suffix}")
    weights.write(net.to_proto(), model)
    history = [h.cpu().numpy() for h in solver.history]
    write_state(State(iteration, str(model), solver.current_step(iteration), history), state)
    return model, state


def _model_of(state: State, solverstate: Path) -> Path | None:
    if not state.learned_net:
        return None
    named = Path(state.learned_net)
    beside = solverstate.parent / named.name
    for path in (named, beside):
        if path.is_file():
            return path
    raise WeightsError(
        f"{solverstate} goes on from the weights in {named}, but there is no such file, nor "
        f"{beside}. Put the caffemodel beside its solverstate."
    )


def _check_history(state: State, solver: Solver, path: Path) -> None:
    own = solver.history
    if len(state.history) != len(own):
        raise WeightsError(
            f"{path} has a history of {len(state.history)} blobs, but a {type(solver).__name__} "
            f"solver of this net has {len(own)}: it belongs to another net or solver type. Resume "
            "with the net and the solver that it was written with."
        )
    for i, (theirs, mine) in enumerate(zip(state.history, own, strict=True)):
        if _without_ones(theirs.shape) != _without_ones(mine.shape):
            raise WeightsError(
                f"{path}: history {i} has the shape {theirs.shape}, but the net's parameter is "
                f"{tuple(mine.shape)}. Resume with the net that it was written with."
            )


def _without_ones(shape: Sequence[int]) -> list[int]:
    """Files of 2014 have four dimensions, whatever the parameter has."""
    return [d for d in shape if d != 1]


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
    folder.mkdir(parents=True, exist_ok=True)
    held = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise TrainError(
                f"Another training writes its snapshots to {folder}. Wait until it ends, or stop it."
            ) from error
        except OSError:
            pass  # a disk that knows no locks
        yield
    finally:
        os.close(held)


class Store:
    """The snapshots of one job, in one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._broken: set[int] = set()  # passed over, and not to be counted among those kept
        folder.mkdir(parents=True, exist_ok=True)

    def files(self, iteration: int) -> Files:
        """Where the snapshot of an iteration stands: HDF5 if that is there, else binary."""
        stem = self._stem(iteration)
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

    def save(self, net: Net, solver: Solver, iteration: int, extra: dict[str, Any]) -> Files:
        """Write a snapshot in the solver's snapshot_format; older ones beyond the last two go."""
        stem = self._stem(iteration)
        files = Files(*write_snapshot(net, solver, iteration, stem), stem.with_suffix(".json"))
        digests = {f.name: sha256(f) for f in (files.model, files.state)}
        whole = {**extra, "iteration": iteration, "sha256": digests}
        write_json(files.extra, {**whole, "checksum": _checksum(whole)})
        self._broken.discard(iteration)
        self._prune(int(extra["best"]["iteration"]))
        return files

    def save_best(self, net: Net, iteration: int) -> Path:
        """Write the weights that did best so far."""
        path = self.best(iteration)
        weights.write(net.to_proto(), path)
        return path

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

    def restore(self, net: Net, solver: Solver, iteration: int) -> None:
        """Load weights and history of a snapshot; raises `WeightsError` if they don't fit."""
        files = self.files(iteration)
        restore_from(files.state, net, solver, files.model)

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
            self._stem(iteration).with_suffix(f".{suffix}").unlink(missing_ok=True)

    def _best_of(self, iteration: int) -> int | None:
        """The iteration of the best weights that a snapshot refers to; None for a broken one."""
        if iteration in self._broken:
            return None
        try:
            return int(_read(self.files(iteration).extra)["best"]["iteration"])
        except (OSError, ValueError):
            return None

    def _stem(self, iteration: int) -> Path:
        return self.folder / f"snap_iter_{iteration}"


def _read(path: Path) -> dict[str, Any]:
    """A snapshot's .json; raises `OSError` or `ValueError` if it isn't as it was written."""
    extra = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(extra, dict) or extra.pop("checksum", None) != _checksum(extra):
        raise ValueError("its checksum is wrong")
    return extra


def _checksum(extra: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(extra, sort_keys=True).encode()).hexdigest()
