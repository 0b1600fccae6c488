"""Snapshots as Caffe leaves them: at the solver's snapshot_prefix, all kept, nothing beside them."""

from __future__ import annotations

from pathlib import Path

from recaffe.engines.torch.net import Net
from recaffe.engines.torch.solvers import Solver
from recaffe.errors import MachineError
from recaffe.net import weights
from recaffe.net.state import State, write_state
from recaffe.proto import caffe_pb2 as pb


def save(net: Net, solver: Solver, iteration: int) -> tuple[Path, Path]:
    """Write PREFIX_iter_N.caffemodel and .solverstate (or both .h5); returns the two paths."""
    stem = f"{solver.p.snapshot_prefix}_iter_{iteration}"
    suffix = ".h5" if solver.p.snapshot_format == pb.SolverParameter.HDF5 else ""
    model, state = Path(f"{stem}.caffemodel{suffix}"), Path(f"{stem}.solverstate{suffix}")
    weights.write(net.to_proto(), model)
    history = [h.cpu().numpy() for h in solver.history]
    write_state(State(iteration, str(model), solver.current_step(iteration), history), state)
    return model, state


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
