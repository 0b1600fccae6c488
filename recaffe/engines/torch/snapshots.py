"""Snapshots of the engine's nets and solvers: caffemodel and solverstate as Caffe writes them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from recaffe.engines import store
from recaffe.engines.store import Files
from recaffe.engines.torch.net import Net
from recaffe.engines.torch.solvers import Solver
from recaffe.errors import WeightsError
from recaffe.net import weights
from recaffe.net.state import State, read_state, write_state
from recaffe.proto import caffe_pb2 as pb


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


class Store(store.Store):
    """The snapshots of one job, in one folder."""

    def save(self, net: Net, solver: Solver, iteration: int, extra: dict[str, Any]) -> Files:
        """Write a snapshot in the solver's snapshot_format; older ones beyond the last two go."""
        stem = self.stem(iteration)
        files = Files(*write_snapshot(net, solver, iteration, stem), stem.with_suffix(".json"))
        self.note(files, iteration, extra)
        return files

    def save_best(self, net: Net, iteration: int) -> Path:
        """Write the weights that did best so far."""
        path = self.best(iteration)
        weights.write(net.to_proto(), path)
        return path

    def restore(self, net: Net, solver: Solver, iteration: int) -> None:
        """Load weights and history of a snapshot; raises `WeightsError` if they don't fit."""
        files = self.files(iteration)
        restore_from(files.state, net, solver, files.model)
