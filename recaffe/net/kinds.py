"""What a file is, for messages: "x.caffemodel is an HTML page, not a caffemodel"."""

from __future__ import annotations

import re

from google.protobuf.message import DecodeError, Message

from recaffe.proto import caffe_pb2 as pb
from recaffe.proto.wire import VarintError, read_varint

HDF5 = b"\x89HDF\r\n\x1a\n"
# All that h5py raises for a file that is damaged or laid out otherwise.
HDF5_ERRORS = (OSError, RuntimeError, KeyError, ValueError, TypeError, IndexError, AttributeError)
STATE = "a solverstate"
BLOB = "a binaryproto, such as a mean"
_LENGTH_DELIMITED = 2
_MAGIC = (
    (HDF5, "an HDF5 file"),
    (b"\x89PNG", "a PNG picture"),
    (b"\xff\xd8\xff", "a JPEG picture"),
    (b"PK\x03\x04", "a ZIP archive (unpack it first)"),
    (b"\x1f\x8b", "a gzip archive (unpack it first)"),
    (b"BZh", "a bzip2 archive (unpack it first)"),
    (b"\xff\xfe", "text in UTF-16 (save it as UTF-8)"),
    (b"\xfe\xff", "text in UTF-16 (save it as UTF-8)"),
    (b"version https://git-lfs", "a Git LFS pointer (run `git lfs pull`)"),
)


def is_text(data: bytes) -> bool:
    """Whether bytes can be a text file: UTF-8, no control characters but white space."""
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return re.search(r"[\x00-\x08\x0e-\x1f\x7f]", text) is None


def is_page(data: bytes) -> bool:
    """Whether bytes begin as an HTML page does."""
    return data[:1024].lstrip().lower().startswith((b"<!doctype", b"<html", b"<?xml"))


def not_utf8(data: bytes) -> str | None:
    """Where text in another encoding, such as Latin-1, stops being UTF-8; None for other files."""
    if not is_text(data.decode("latin-1").encode()):
        return None
    try:
        data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        column = error.start - data.rfind(b"\n", 0, error.start)
        return f"line {line}, column {column}: byte 0x{data[error.start]:02x}"
    return None


def describe(data: bytes) -> str:
    """What a file's bytes are, as a noun with its article."""
    if not data:
        return "an empty file"
    for magic, name in _MAGIC:
        if data.startswith(magic):
            return name
    if is_text(data):
        if is_page(data):
            return "an HTML page, such as a failed download leaves"
        if re.search(rb"^\s*\w+\s*(:|\{)", data, re.MULTILINE):
            return "a prototxt (text)"
        return "a text file"
    return _message(data)


def _message(data: bytes) -> str:
    net, state, blob = pb.NetParameter(), pb.SolverState(), pb.BlobProto()
    if _parses(net, data) and (net.layer or net.layers):
        return "a caffemodel"
    if _parses(state, data) and is_state(state):
        return STATE
    if _parses(blob, data) and (blob.data or blob.double_data):
        return BLOB
    lacks = missing(data)
    if lacks > 0:
        return f"cut short: at least {lacks:,} bytes are missing at its end"
    return "none of Caffe's files"


def is_state(state: pb.SolverState) -> bool:
    """Whether what was parsed as a SolverState is one: protobuf takes most messages for another
    kind with unknown fields."""
    return state.HasField("iter") and (state.HasField("learned_net") or len(state.history) > 0)


def missing(data: bytes) -> int:
    """How many bytes a cut-off protobuf message lacks at least; 0 if it is whole or none."""
    try:
        return max(0, _end(data) - len(data))
    except VarintError as error:
        return int(error.cut)


def _end(data: bytes) -> int:
    """Where a message's last field ends; 0 for bytes that are no message."""
    at = 0
    while at < len(data):
        tag, at = read_varint(data, at)
        wire = tag & 7
        if tag >> 3 == 0 or wire not in (0, 1, 2, 5):
            return 0
        if wire == 0:
            _, at = read_varint(data, at)
        elif wire == _LENGTH_DELIMITED:
            size, at = read_varint(data, at)
            at += size
        else:
            at += 8 if wire == 1 else 4
    return at


def _parses(message: Message, data: bytes) -> bool:
    try:
        message.ParseFromString(data)
    except DecodeError:
        return False
    return True
