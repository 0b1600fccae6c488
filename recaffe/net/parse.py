"""prototxt files as protobuf messages, with every unknown field named."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from google.protobuf import text_format

from recaffe.errors import NetError
from recaffe.net.prototxt import Message, parse
from recaffe.proto import caffe_pb2 as pb


def read_tree(path: Path | str) -> Message:
    """The lossless tree of a prototxt file; raises `NetError` with line and column."""
    path = Path(path)
    try:
        text = path.read_bytes().decode("utf-8")
    except OSError as error:
        raise NetError(f"{path}: {error.strerror}. Check the `net` key.") from error
    except UnicodeDecodeError as error:
        raise NetError(f"{path} is not text. A net is a .prototxt file, not weights.") from error
    return parse(text, str(path))


def to_net(tree: Message, source: str = "prototxt") -> pb.NetParameter:
    """The NetParameter that a tree stands for; fields that Caffe doesn't know are passed over.

    Raises `NetError` for a wrong type, enum or repetition, and for the V0 and V1 forms.
    """
    net = pb.NetParameter()
    try:
        text_format.Parse(tree.render(), net, allow_unknown_field=True)
    except text_format.ParseError as error:
        raise NetError(f"{source}, line {_place(error)}") from error
    if net.layers:
        raise NetError(
            f"{source} is written in Caffe's form of 2014 (`layers {{`). Bring it up to date with "
            "Caffe's upgrade_net_proto_text first."
        )
    return net


def to_solver(text: str, source: str = "solver.prototxt") -> pb.SolverParameter:
    """Parse a SolverParameter; raises `NetError` with line and column, unknown keys included."""
    solver = pb.SolverParameter()
    try:
        text_format.Parse(text, solver)
    except text_format.ParseError as error:
        raise NetError(f"{source}, line {_place(error)}") from error
    return solver


def read_net(path: Path | str) -> pb.NetParameter:
    """Parse a prototxt file into a NetParameter."""
    return to_net(read_tree(path), str(path))


def unknown_fields(tree: Message) -> list[str]:
    """`line 12: layer.new_param` for each field that Caffe 1.0 doesn't have."""
    found: list[str] = []
    _unknown(tree, pb.NetParameter.DESCRIPTOR, "", found)
    return found


def _unknown(tree: Message, kind: Any, prefix: str, found: list[str]) -> None:
    for f in tree.fields:
        if not f.name:
            continue
        known = kind.fields_by_name.get(f.name)
        if known is None:
            found.append(f"line {f.line}: {prefix}{f.name}")
        elif f.message is not None and known.message_type is not None:
            _unknown(f.message, known.message_type, f"{prefix}{f.name}.", found)


def _place(error: text_format.ParseError) -> str:
    line, column = error.GetLine(), error.GetColumn()
    text = str(error)
    if line is not None and text.startswith(f"{line}:"):
        text = text.split(" : ", 1)[-1]
    return f"{line}, column {column}: {text}" if line is not None else text
