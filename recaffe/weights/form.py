"""A published caffemodel, in whichever of Caffe's forms → one that today's Caffe reads."""

from __future__ import annotations

import shutil
from pathlib import Path

from google.protobuf.message import DecodeError

from recaffe.errors import NetError, WeightsError
from recaffe.files import explain_os_error, write_aside, write_bytes
from recaffe.net import kinds, parse
from recaffe.net import weights as caffemodel
from recaffe.net.upgrade.nets import upgrade_net
from recaffe.proto import caffe_pb2 as pb


def install(file: Path, out: Path) -> str:
    """Write `file` to `out`, brought up to date if its form is an older one; says what was done.

    A binary file of today's form and HDF5, which Caffe knows by its content, are copied to the byte.
    Raises `WeightsError` if it is no caffemodel.
    """
    net, what = _read(file)
    if net is None:
        with write_aside(out) as aside:
            shutil.copyfile(file, aside)
    else:
        write_bytes(out, net.SerializeToString(deterministic=True))
    return what


def check(file: Path) -> None:
    """Raises `WeightsError` that says what a file is if it is no caffemodel."""
    _read(file)


def _read(file: Path) -> tuple[pb.NetParameter | None, str]:
    """The upgraded net, or None for a file that can stay as it is; and what was done, as words."""
    try:
        data = file.read_bytes()
    except OSError as error:
        raise explain_os_error(error, file) from error
    if data.startswith(kinds.HDF5):
        caffemodel.read(file)
        return None, "HDF5, as published"
    text = kinds.is_text(data)
    net = _of_text(data, file) if text else _of_binary(data, file)
    del data  # as large as the net
    older = bool(net.layers)
    if older:
        try:
            upgrade_net(net)
        except (NetError, UnicodeDecodeError) as error:  # C++ carries over any bytes of a name
            raise WeightsError(f"{file}: {error}") from error
    if not any(layer.blobs for layer in net.layer):
        raise WeightsError(f"{file} holds no weights: none of its layers has blobs.")
    if older:
        return net, "upgraded from an older form"
    return (net, "turned from text to binary") if text else (None, "as published")


def _of_text(data: bytes, file: Path) -> pb.NetParameter:
    what = kinds.describe(data)
    if "prototxt" not in what:
        raise WeightsError(f"{file} is no caffemodel; it is {what}.")
    try:
        return parse.raw_net(parse.to_tree(data, str(file)), str(file))
    except NetError as error:
        raise WeightsError(str(error)) from error


def _of_binary(data: bytes, file: Path) -> pb.NetParameter:
    net = pb.NetParameter()
    try:
        net.ParseFromString(data)
    except DecodeError:
        net.Clear()
    if not net.layer and not net.layers:
        raise WeightsError(f"{file} is no caffemodel; it is {kinds.describe(data)}.")
    return net
