"""solverstate files, in both of Caffe's formats: a solver's iteration and history."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import h5py
import numpy as np
from google.protobuf.message import DecodeError

from recaffe.errors import WeightsError
from recaffe.files import write_aside, write_bytes
from recaffe.net import kinds
from recaffe.net.blobs import from_blob, to_blob
from recaffe.net.hdf5 import values
from recaffe.proto import caffe_pb2 as pb


@dataclass
class State:
    """`history` has one float32 array a learned parameter (AdaDelta and Adam: two, the second of
    each after all the first), in the order of the net's learnable parameters."""

    iteration: int
    learned_net: str
    current_step: int = 0
    history: list[np.ndarray] = field(default_factory=list)


def read_state(path: Path | str) -> State:
    """A solverstate, binary or HDF5 by its content.

    Raises `WeightsError` that says what the file is if it is missing, cut short, or another kind.
    """
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise WeightsError(f"{path}: {error.strerror}. Check the path of the snapshot.") from error
    return _read_hdf5(path) if data.startswith(kinds.HDF5) else _read_binary(path, data)


def write_state(state: State, path: Path | str) -> None:
    """Write as Caffe does, aside, then renamed: HDF5 if the name ends in `.h5`, else binary."""
    if str(path).endswith(".h5"):
        with write_aside(path) as aside, h5py.File(aside, "w") as file:
            _fill_hdf5(file, state)
        return
    proto = pb.SolverState(
        iter=state.iteration, learned_net=state.learned_net, current_step=state.current_step
    )
    proto.history.extend(to_blob(h) for h in state.history)
    write_bytes(path, proto.SerializeToString(deterministic=True))


def _read_binary(path: Path | str, data: bytes) -> State:
    proto = pb.SolverState()
    try:
        proto.ParseFromString(data)
    except DecodeError as error:
        raise _wrong(path, kinds.describe(data)) from error
    if not kinds.is_state(proto):
        raise _wrong(path, kinds.describe(data))
    return State(
        proto.iter,
        proto.learned_net,
        proto.current_step,
        [from_blob(b, f"{path}: history {i}") for i, b in enumerate(proto.history)],
    )


def _read_hdf5(path: Path | str) -> State:
    try:
        with h5py.File(path, "r") as file:
            if "iter" not in file or "history" not in file:
                raise _wrong(path, "HDF5 without `iter` and `history`" + _hint(file))
            history = file["history"]
            return State(
                _int(file["iter"]),
                _text(file["learned_net"][()]) if "learned_net" in file else "",
                _int(file["current_step"]) if "current_step" in file else 0,
                [values(history[str(i)]) for i in range(len(history))],
            )
    except kinds.HDF5_ERRORS as error:
        raise _wrong(path, f"a broken HDF5 file ({error})") from error


def _fill_hdf5(file: h5py.File, state: State) -> None:
    # Types and ranks are those that Caffe's H5LT calls make.
    file.create_dataset("iter", data=np.array([state.iteration], np.int32))
    learned_net = state.learned_net.encode() + b"\0"
    file.create_dataset("learned_net", data=learned_net, dtype=f"S{len(learned_net)}")
    file.create_dataset("current_step", data=np.array([state.current_step], np.int32))
    history = file.create_group("history")
    for i, blob in enumerate(state.history):
        history.create_dataset(str(i), data=np.asarray(blob, np.float32))


def _int(dataset: h5py.Dataset) -> int:
    return int(np.ravel(dataset[()])[0])


def _text(value: bytes | str) -> str:
    return value if isinstance(value, str) else value.split(b"\0")[0].decode("utf-8", "replace")


def _hint(file: h5py.File) -> str:
    return ": HDF5 weights (.caffemodel.h5)" if "data" in file else ""


def _wrong(path: Path | str, what: str) -> WeightsError:
    return WeightsError(
        f"{path} is no solverstate; it is {what}. Name the .solverstate or .solverstate.h5 that a "
        "snapshot wrote beside its weights."
    )
