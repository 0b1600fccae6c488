"""Whether the two files of a snapshot are all there, and belong together."""

from __future__ import annotations

from pathlib import Path

from google.protobuf.message import DecodeError

from recaffe.engines.base import Snapshot
from recaffe.files import write_bytes
from recaffe.proto import caffe_pb2 as pb


def problem(snapshot: Snapshot) -> str | None:
    """What is wrong with a snapshot that Caffe has written, or is writing; None for a whole one.

    Both are read to their end: the state's last field is there, it is of this iteration and of this
    caffemodel, and its history has the shapes of the caffemodel's blobs.
    """
    model, state = pb.NetParameter(), pb.SolverState()
    try:
        state.ParseFromString(snapshot.state.read_bytes())
        # It is written last, and always.
        if not state.HasField("current_step"):
            return f"{snapshot.state.name} is cut short"
        model.ParseFromString(snapshot.model.read_bytes())
    except OSError as error:
        return f"{error.filename}: {error.strerror}"
    except DecodeError:
        return f"{snapshot.state.name} or {snapshot.model.name} is cut short"
    if state.iter != snapshot.iteration or Path(state.learned_net).name != snapshot.model.name:
        return f"{snapshot.state.name} belongs to {Path(state.learned_net).name}"
    known = {_size(b) for layer in model.layer for b in layer.blobs}
    if not state.history or any(_size(h) not in known for h in state.history):
        return f"{snapshot.state.name} doesn't belong to {snapshot.model.name}"
    return None


def pointing_to(model: Path, state: Path, aside: Path) -> Path:
    """A solverstate that goes on from `model`: `state`, or a copy in `aside` if the folder was moved."""
    proto = pb.SolverState()
    proto.ParseFromString(state.read_bytes())
    if Path(proto.learned_net) == model:
        return state
    proto.learned_net = str(model)
    write_bytes(aside, proto.SerializeToString())
    return aside


def _size(blob: pb.BlobProto) -> tuple[int, ...]:
    return tuple(blob.shape.dim)
