"""One file in an older form → another in today's, as Caffe's three upgrade tools do."""

from __future__ import annotations

from pathlib import Path

from google.protobuf.message import DecodeError

from recaffe.errors import NetError
from recaffe.files import write_bytes, write_text
from recaffe.net import kinds, parse
from recaffe.net.prototxt import Message
from recaffe.net.upgrade.nets import upgrade_net
from recaffe.net.upgrade.tree import upgrade_solver_tree, upgrade_tree
from recaffe.proto import caffe_pb2 as pb

_NET = {f.name for f in pb.NetParameter.DESCRIPTOR.fields}
_SOLVER = {f.name for f in pb.SolverParameter.DESCRIPTOR.fields}


def upgrade_file(source: Path | str, target: Path | str) -> list[str]:
    """Write `source`, a net (text or binary) or solver, to `target` in today's form.

    What it is, is told by its content. Returns a sentence for each thing that was left out, which
    Caffe's tools report with exit status 1. Raises `NetError` for a file that is neither, and
    where Caffe's tools abort; then nothing is written.
    """
    source = Path(source)
    try:
        data = source.read_bytes()
    except OSError as error:
        raise NetError(f"{source}: {error.strerror}. Name a prototxt or caffemodel.") from error
    if not data:
        raise NetError(f"{source} is an empty file. Name a prototxt or caffemodel.")
    if not kinds.is_text(data) and not kinds.not_utf8(data):
        return _binary(data, source, target)
    tree = parse.to_tree(data, str(source))
    if is_solver(tree):
        parse.to_solver(tree.render(), str(source))
        upgrade_solver_tree(tree)
        write_text(target, tree.render())
        return []
    if not _NET & {f.name for f in tree.fields}:
        raise NetError(f"{source} is neither a net nor a solver: it has no field of either.")
    upgraded = upgrade_tree(tree, str(source))
    write_text(target, upgraded.tree.render())
    return upgraded.warnings + [
        f"Caffe 1.0 doesn't know this field; it is kept: {u}"
        for u in parse.unknown_fields(upgraded.tree)
    ]


def is_solver(tree: Message) -> bool:
    """Whether a prototxt is a solver's: more of its fields are a solver's than a net's."""
    names = [f.name for f in tree.fields]
    return sum(n in _SOLVER for n in names) > sum(n in _NET for n in names)


def _binary(data: bytes, source: Path, target: Path | str) -> list[str]:
    net = pb.NetParameter()
    try:
        net.ParseFromString(data)
    except DecodeError as error:
        raise NetError(f"{source} is {kinds.describe(data)}. Fetch it again.") from error
    parse.check_required(net, str(source))
    what = kinds.describe(data)
    if not net.ListFields() or what in (kinds.STATE, kinds.BLOB):
        raise NetError(f"{source} is {what}, which has no older form. Name a net or a solver.")
    try:
        lost = upgrade_net(net)
    except NetError as error:
        raise NetError(f"{source}: {error}") from error
    except UnicodeDecodeError as error:  # C++ would carry over any bytes
        raise NetError(
            f"{source} has a name that is not UTF-8 ({error}). Fetch it again, or write it anew with "
            "other names."
        ) from error
    write_bytes(target, net.SerializeToString(deterministic=True))
    return lost
