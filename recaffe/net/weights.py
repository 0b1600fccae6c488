"""caffemodel files: read in every published form, written as Caffe 1.0 does."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from google.protobuf.message import DecodeError

from recaffe.errors import WeightsError
from recaffe.files import write_bytes
from recaffe.net import hdf5, kinds
from recaffe.net.blobs import Weights, from_blob, to_blob
from recaffe.net.shapes import LayerShapes
from recaffe.proto import caffe_pb2 as pb
from recaffe.tables import cell_of


def read(path: Path | str, net: Iterable[pb.LayerParameter] = ()) -> Weights:
    """Layer name → blobs (float32, in the file's shape) of a caffemodel: V2, V1, V0, or HDF5.

    HDF5 holds shared parameters once, with their owner; `net`, the layers that the weights are for,
    says where they belong. Raises `WeightsError` that says what the file is if it is missing, cut
    short, or another kind.
    """
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise WeightsError(f"{path}: {error.strerror}. Check the path of the weights.") from error
    if data.startswith(kinds.HDF5):
        weights = hdf5.read(path, net)
    else:
        message = _parse(data, path)
        del data  # the blobs take its memory: CaffeNet's file has 244 MB
        weights = _blobs(message, path)
    if not weights:
        raise WeightsError(f"{path} holds no weights: none of its layers has blobs.")
    return weights


def _parse(data: bytes, path: Path | str) -> pb.NetParameter:
    net = pb.NetParameter()
    try:
        net.ParseFromString(data)
    except DecodeError as error:
        raise _wrong(path, data) from error
    if not net.layer and not net.layers:
        raise _wrong(path, data)
    if net.layer and net.layers:
        raise WeightsError(
            f"{path} has layers of both forms, `layer` and `layers`, which Caffe refuses."
        )
    return net


def _blobs(net: pb.NetParameter, path: Path | str) -> Weights:
    weights: Weights = {}
    for layer in net.layer:
        _add(weights, layer.name, layer.blobs, path)
    for old in net.layers:
        older = old.layer if old.HasField("layer") else old
        _add(weights, older.name, older.blobs, path)
    return weights


def _add(weights: Weights, name: str, blobs: Sequence[pb.BlobProto], path: Path | str) -> None:
    if isinstance(name, bytes):  # protobuf hands over what isn't UTF-8 as it is
        name = name.decode("utf-8", "backslashreplace")
    if blobs:
        weights[name] = [from_blob(b, f"{path}: {name}") for b in blobs]


def _wrong(path: Path | str, data: bytes) -> WeightsError:
    return WeightsError(
        f"{path} is no caffemodel; it is {kinds.describe(data)}. Name the file of weights, or fetch "
        "it again."
    )


def to_net(name: str, layers: Iterable[tuple[str, str, Sequence[np.ndarray]]]) -> pb.NetParameter:
    """(layer name, type, blobs) as the NetParameter that a caffemodel holds."""
    net = pb.NetParameter(name=name)
    for layer_name, kind, blobs in layers:
        layer = net.layer.add(name=layer_name, type=kind)
        layer.blobs.extend(to_blob(b) for b in blobs)
    return net


def write(net: pb.NetParameter, path: Path | str) -> None:
    """Write aside, then rename: HDF5 if the name ends in `.h5`, else binary, deterministically."""
    if str(path).endswith(".h5"):
        blobs = {x.name: [from_blob(b, x.name) for b in x.blobs] for x in net.layer}
        hdf5.write(blobs, path)
        return
    write_bytes(path, net.SerializeToString(deterministic=True))


@dataclass(frozen=True)
class Transfer:
    """One line of the transfer table. `status`: copied, new, ignored, or mismatch."""

    layer: str
    status: str
    target: str
    source: str
    expected: bool

    @property
    def shapes(self) -> str:
        return f"net {self.target or 'has no such layer'}, weights {self.source or 'have no such layer'}"


def transfer_table(
    net: Sequence[LayerShapes],
    weights: Mapping[str, Sequence[np.ndarray]],
    heads: Mapping[str, str],
) -> list[Transfer]:
    """Which layers will be copied, newly initialised or ignored, before any training.

    `heads` maps the old heads' names to the new: these are expected to be new, and the old ones
    to be ignored. Source: `Net::CopyTrainedLayersFrom`, which says neither.
    """
    rows = []
    seen = set()
    for shaped in net:
        name = shaped.layer.name
        if not shaped.params or name in seen:
            continue
        seen.add(name)
        target = [shape for shape, _ in shaped.params]
        if name not in weights:
            rows.append(Transfer(name, "new", _say(target), "", name in heads.values()))
            continue
        source = [b.shape for b in weights[name]]
        fit = len(source) == len(target) and all(map(fits, source, target))
        rows.append(
            Transfer(name, "copied" if fit else "mismatch", _say(target), _say(source), fit)
        )
    for name, blobs in weights.items():
        if name not in seen:
            rows.append(
                Transfer(name, "ignored", "", _say([b.shape for b in blobs]), name in heads)
            )
    return rows


_LISTED = "A layer that may stay unmatched can be listed in `unmatched`."


def check_transfer(
    rows: Sequence[Transfer], path: Path | str, allowed: Sequence[str] | None = None
) -> None:
    """Raises `WeightsError` that names the layers and both shapes if any row is unexpected.

    `allowed` is the config's `unmatched`, where there is a config.
    """
    wrong = [
        r
        for r in rows
        if not r.expected and (r.status == "mismatch" or r.layer not in (allowed or ()))
    ]
    if wrong:
        lines = "\n".join(f"  {r.layer}: {r.status}; {r.shapes}" for r in wrong[:8])
        more = f"\n  … and {len(wrong) - 8} more" if len(wrong) > 8 else ""
        raise WeightsError(
            f"{path} doesn't belong to this net:\n{lines}{more}\nUse the net's own weights."
            + ("" if allowed is None else f" {_LISTED}")
        )


def of_net(net: Sequence[LayerShapes], path: Path | str) -> Weights:
    """The weights of a net that is to be used as it is: each of its layers must find its own.

    Layers of the file that the net lacks are passed over, as Caffe does (a deploy net has no
    auxiliary heads). Raises `WeightsError` that names layers and shapes; Caffe leaves a layer that
    finds nothing at its random start.
    """
    source = read(path, [s.layer for s in net])
    rows = transfer_table(net, source, {})
    check_transfer([r for r in rows if r.status != "ignored"], path)
    return copied(source, rows)


def copied(weights: Weights, rows: Sequence[Transfer]) -> Weights:
    """The blobs of the rows that are copied."""
    return {r.layer: weights[r.layer] for r in rows if r.status == "copied"}


def table_csv(rows: Sequence[Transfer]) -> str:
    """The transfer table as CSV text."""
    text = io.StringIO()
    out = csv.writer(text, lineterminator="\n")
    out.writerow(("layer", "status", "net", "weights"))
    out.writerows((cell_of(r.layer), r.status, r.target, r.source) for r in rows)
    return text.getvalue()


def fits(source: tuple[int, ...], target: tuple[int, ...]) -> bool:
    """Whether Caffe would copy a blob of the shape `source` into one of the shape `target`."""
    if source == target:
        return True
    # The legacy form pads with leading ones, and so may either side's blob.
    strip = lambda s: s[next((i for i, d in enumerate(s) if d != 1), len(s)) :]  # noqa: E731 - one use
    return len(source) == 4 and strip(source) == strip(target)


def _say(shapes: Sequence[tuple[int, ...]]) -> str:
    return " ".join("×".join(map(str, s)) or "1" for s in shapes)
