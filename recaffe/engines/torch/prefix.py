"""Snapshots as Caffe leaves them: at the solver's snapshot_prefix, all kept.

Beside each solverstate stands what it has no field for but an exact resume wants, as .json: the
`seed`, which the solver may leave to chance, and the `losses` that the next one is averaged with.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from recaffe.engines.torch.net import Net
from recaffe.engines.torch.snapshots import write_snapshot
from recaffe.engines.torch.solvers import Solver
from recaffe.errors import MachineError
from recaffe.files import sha256, write_json


def save(
    net: Net, solver: Solver, iteration: int, seed: int, losses: Sequence[float]
) -> tuple[Path, Path]:
    """Write PREFIX_iter_N.caffemodel and .solverstate (or both .h5); returns the two paths."""
    stem = Path(f"{solver.p.snapshot_prefix}_iter_{iteration}")
    model, state = write_snapshot(net, solver, iteration, stem)
    noted = {"seed": seed, "losses": list(losses), "sha256": sha256(state)}
    write_json(_notes_of(state), noted)
    return model, state


def notes(solverstate: Path | None) -> dict[str, Any]:
    """`seed` and `losses` at a solverstate; nothing for one that Caffe wrote, or wrote over."""
    try:
        if solverstate is None:
            return {}
        noted = json.loads(_notes_of(solverstate).read_text(encoding="utf-8"))
        return noted if noted["sha256"] == sha256(solverstate) else {}
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def _notes_of(solverstate: Path) -> Path:
    return Path(f"{solverstate}.json")


def check_writable(prefix: str) -> None:
    """Raises `MachineError` if no snapshot could be written there: better now than hours later."""
    probe = Path(f"{prefix}_iter_0.tempfile")
    try:
        probe.parent.mkdir(parents=True, exist_ok=True)
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise MachineError(
            f"Snapshots can't be written to {probe.parent} ({error.strerror}). Make that folder "
            "writable, or change snapshot_prefix in the solver."
        ) from error
