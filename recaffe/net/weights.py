"""caffemodel files: read in every published form, written as Caffe 1.0 does."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from recaffe.errors import WeightsError
from recaffe.files import write_bytes
from recaffe.net.blobs import from_blob, to_blob
from recaffe.net.shapes import LayerShapes
from recaffe.proto import caffe_pb2 as pb

Weights = dict[str, list[np.ndarray]]


def read(path: Path | str) -> Weights:
    """Layer name → blobs (float32, in the file's shape) of a caffemodel, V2 or V1.

    Raises `WeightsError` if the file is missing, cut short, or none.
    """
    net = pb.NetParameter()
    try:
        net.ParseFromString(Path(path).read_bytes())
    except OSError as error:
        raise WeightsError(f"{path}: {error.strerror}. Check the `weights` key.") from error
    except Exception as error:
        raise WeightsError(f"{path} is not a whole caffemodel: {error}. Fetch it again.") from error
    weights: Weights = {}
    layers: list[pb.LayerParameter | pb.V1LayerParameter] = [*net.layer, *net.layers]
    for layer in layers:
        if layer.blobs:
            weights[layer.name] = [from_blob(b, f"{path}: {layer.name}") for b in layer.blobs]
    if not weights:
        raise WeightsError(f"{path} holds no weights. Is it a caffemodel?")
    return weights


def to_net(name: str, layers: Iterable[tuple[str, str, Sequence[np.ndarray]]]) -> pb.NetParameter:
    """(layer name, type, blobs) as the NetParameter that a caffemodel holds."""
    net = pb.NetParameter(name=name)
    for layer_name, kind, blobs in layers:
        layer = net.layer.add(name=layer_name, type=kind)
        layer.blobs.extend(to_blob(b) for b in blobs)
    return net


def write(net: pb.NetParameter, path: Path | str) -> None:
    """Serialise deterministically; aside, then renamed."""
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
        fits = len(source) == len(target) and all(map(_fits, source, target))
        rows.append(
            Transfer(name, "copied" if fits else "mismatch", _say(target), _say(source), fits)
        )
    for name, blobs in weights.items():
        if name not in seen:
            rows.append(
                Transfer(name, "ignored", "", _say([b.shape for b in blobs]), name in heads)
            )
    return rows


def check_transfer(rows: Sequence[Transfer], path: Path | str, allowed: Sequence[str] = ()) -> None:
    """Raises `WeightsError` that names the layers and both shapes if any row is unexpected."""
    wrong = [
        r for r in rows if not r.expected and (r.status == "mismatch" or r.layer not in allowed)
    ]
    if wrong:
        lines = "\n".join(f"  {r.layer}: {r.status}; {r.shapes}" for r in wrong[:8])
        more = f"\n  … and {len(wrong) - 8} more" if len(wrong) > 8 else ""
        raise WeightsError(
            f"{path} doesn't belong to this net:\n{lines}{more}\nUse the net's own weights. A layer "
            "that may stay unmatched can be listed in `unmatched`."
        )


def copied(weights: Weights, rows: Sequence[Transfer]) -> Weights:
    """The blobs of the rows that are copied."""
    return {r.layer: weights[r.layer] for r in rows if r.status == "copied"}


def table_csv(rows: Sequence[Transfer]) -> str:
    """The transfer table as CSV text."""
    text = io.StringIO()
    out = csv.writer(text, lineterminator="\n")
    out.writerow(("layer", "status", "net", "weights"))
    out.writerows((r.layer, r.status, r.target, r.source) for r in rows)
    return text.getvalue()


def _fits(source: tuple[int, ...], target: tuple[int, ...]) -> bool:
    if source == target:
        return True
    # The legacy form pads with leading ones, and so may either side's blob.
    strip = lambda s: s[next((i for i, d in enumerate(s) if d != 1), len(s)) :]  # noqa: E731 - one use
    return len(source) == 4 and strip(source) == strip(target)


def _say(shapes: Sequence[tuple[int, ...]]) -> str:
    return " ".join("×".join(map(str, s)) or "1" for s in shapes)
