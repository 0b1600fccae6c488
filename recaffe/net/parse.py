"""prototxt files as protobuf messages, with every unknown field named."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from google.protobuf import text_format
from google.protobuf.message import Message as Proto

from recaffe import progress
from recaffe.errors import NetError
from recaffe.net import kinds
from recaffe.net.prototxt import Field, Message, parse
from recaffe.net.upgrade.nets import upgrade_net, upgrade_solver
from recaffe.proto import caffe_pb2 as pb

_LONGEST = 200  # characters of an error's text


def read_tree(path: Path | str) -> Message:
    """The lossless tree of a prototxt file; raises `NetError` with line and column."""
    path = Path(path)
    try:
        data = path.read_bytes()
    except OSError as error:
        raise NetError(f"{path}: {error.strerror}. Check the `net` key.") from error
    return to_tree(data, str(path))


def to_tree(data: bytes, source: str) -> Message:
    """The lossless tree of a prototxt's bytes; raises `NetError` with line and column, or one that
    says what the bytes are if they are no text."""
    if place := kinds.not_utf8(data):
        raise NetError(f"{source}, {place} is no UTF-8. Save the file as UTF-8.")
    if not kinds.is_text(data):
        raise NetError(
            f"{source} is no prototxt; it is {kinds.describe(data)}. A net is a .prototxt file, not weights."
        )
    return parse(data.decode("utf-8"), source)


def raw_net(tree: Message, source: str = "prototxt") -> pb.NetParameter:
    """The NetParameter as the tree has it, in whichever form of Caffe's.

    Fields that Caffe doesn't know are passed over. Raises `NetError` for a wrong type, enum or
    repetition.
    """
    net = pb.NetParameter()
    _parse(tree.render(), net, source, unknown=True)
    return net


def to_net(tree: Message, source: str = "prototxt") -> pb.NetParameter:
    """The NetParameter that a tree stands for, brought up to date as Caffe does on reading.

    Raises `NetError` as `raw_net` does, and for a net that Caffe can't bring up to date.
    """
    return _upgraded(tree, source)[0]


def read_net(path: Path | str) -> pb.NetParameter:
    """Parse a prototxt file of any form; what its upgrade leaves out is named on stderr."""
    net, lost = _upgraded(read_tree(path), str(path))
    for sentence in lost:
        progress.line(f"{path}: {sentence}.")
    return net


def to_layer(layer: Message) -> pb.LayerParameter:
    """One layer of a tree as a protobuf."""
    root = Message()
    root.add("layer").fields = layer.fields
    return to_net(root).layer[0]


def to_solver(text: str, source: str = "solver.prototxt") -> pb.SolverParameter:
    """Parse a SolverParameter, `solver_type` turned into `type`; raises `NetError` with line and
    column, unknown keys included."""
    solver = pb.SolverParameter()
    _parse(text, solver, source)
    try:
        upgrade_solver(solver)
    except NetError as error:
        raise NetError(f"{source}: {error}") from error
    return solver


def unknown_fields(tree: Message) -> list[str]:
    """`line 12: layer.new_param` for each field that Caffe 1.0 doesn't have."""
    return [f"line {f.line}: {path}" for _, f, path in walk_unknown(tree)]


def walk_unknown(
    tree: Message, kind: Any = pb.NetParameter.DESCRIPTOR, prefix: str = ""
) -> Iterator[tuple[Message, Field, str]]:
    """(its message, the field, its dotted path) for each field that Caffe 1.0 doesn't have."""
    for f in tree.fields:
        if not f.name:
            continue
        known = kind.fields_by_name.get(f.name)
        if known is None:
            yield tree, f, f"{prefix}{f.name}"
        elif f.message is not None and known.message_type is not None:
            yield from walk_unknown(f.message, known.message_type, f"{prefix}{f.name}.")


def _upgraded(tree: Message, source: str) -> tuple[pb.NetParameter, list[str]]:
    net = raw_net(tree, source)
    try:
        return net, upgrade_net(net)
    except NetError as error:
        raise NetError(f"{source}: {error}") from error


def _parse(text: str, target: Proto, source: str, unknown: bool = False) -> None:
    try:
        text_format.Parse(text, target, allow_unknown_field=unknown)
    except text_format.ParseError as error:
        raise NetError(f"{source}, line {_place(error)}") from error
    except RecursionError as error:
        raise NetError(f"{source} has messages nested too deep.") from error
    check_required(target, source)


def check_required(message: Proto, source: str) -> None:
    """Raise `NetError` if a field is missing that Caffe can't do without (Clip's min and max)."""
    missing = message.FindInitializationErrors()  # type: ignore[attr-defined]  # the stubs lack it
    if missing:
        raise NetError(f"{source} lacks {', '.join(missing)}, which Caffe requires.")


def _place(error: text_format.ParseError) -> str:
    line, column = error.GetLine(), error.GetColumn()
    text = str(error)
    if line is not None and text.startswith(f"{line}:"):
        text = text.split(" : ", 1)[-1]
    if len(text) > _LONGEST:  # protobuf quotes the whole line
        text = f"{text[: _LONGEST // 2]} … {text[-_LONGEST // 2 :]}"
    return f"{line}, column {column}: {text}" if line is not None else text
