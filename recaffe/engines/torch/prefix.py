"""Snapshots as Caffe leaves them: at the solver's snapshot_prefix, all kept, nothing beside them."""

from __future__ import annotations

from pathlib import Path

from recaffe.engines.torch.net import Net
from recaffe.engines.torch.snapshots import write_snapshot
from recaffe.engines.torch.solvers import Solver
from recaffe.errors import MachineError


def save(net: Net, solver: Solver, iteration: int) -> tuple[Path, Path]:
    """Write PREFIX_iter_N.caffemodel and .solverstate (or both .h5); returns the two paths."""
    stem = Path(f"{solver.p.snapshot_prefix}_iter_{iteration}")
    return write_snapshot(net, solver, iteration, stem)


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
