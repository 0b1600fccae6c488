"""Weights in HDF5, `.caffemodel.h5`: a group `data/LAYER` for each layer, a dataset for each blob."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import h5py
import numpy as np

from recaffe.errors import WeightsError
from recaffe.files import write_aside
from recaffe.net import kinds
from recaffe.net.blobs import Weights
from recaffe.proto import caffe_pb2 as pb

_DEFLATE = 1100  # the most that HDF5's compression makes of a byte, and some
_UNWRITTEN = 1 << 20  # bytes of a dataset that may never have been written: zeros, and no harm
Found = dict[str, dict[int, np.ndarray]]


def read(path: Path | str, net: Iterable[pb.LayerParameter] = ()) -> Weights:
    """Layer name → blobs (float32).

    `Net::ToHDF5` writes a shared parameter with its owner only; its other places are filled by the
    names in `net`. Raises `WeightsError` if the file is broken or none of weights, or if a blob is
    missing that `net` doesn't say.
    """
    found: Found = {}
    try:
        with h5py.File(path, "r") as file:
            if "data" not in file:
                raise WeightsError(
                    f"{path} is HDF5, but not weights: it has no group `data`."
                    + (" It is a solverstate." if "history" in file else "")
                )
            _collect(file["data"], "", found, set())
    except kinds.HDF5_ERRORS as error:
        raise WeightsError(f"{path} is broken HDF5 ({error}). Fetch it again.") from error
    _fill_shared(found, net)
    weights: Weights = {}
    for name, blobs in found.items():
        if sorted(blobs) != list(range(len(blobs))):
            raise WeightsError(
                f"{path}: layer {name!r} has blob {', '.join(map(str, sorted(blobs)))} but not those "
                "before it. HDF5 holds a shared parameter only once, and this net doesn't share it. "
                "Use the binary caffemodel."
            )
        weights[name] = [blobs[i] for i in range(len(blobs))]
    return weights


def write(weights: Mapping[str, Sequence[np.ndarray]], path: Path | str) -> None:
    """Write as `Net::ToHDF5` does, aside, then renamed; shared parameters with each layer.

    Raises `WeightsError` for a layer's name that Caffe couldn't find again.
    """
    for name in weights:
        if "/" in name:
            raise WeightsError(
                f"{path}: layer {name!r} has a slash in its name, which HDF5 takes for a folder, and "
                "Caffe wouldn't find its weights. Write a binary caffemodel (snapshot_format: "
                "BINARYPROTO)."
            )
    with write_aside(path) as aside, h5py.File(aside, "w") as file:
        data = file.create_group("data")
        for name, blobs in weights.items():
            group = data.create_group(name)
            for i, blob in enumerate(blobs):
                group.create_dataset(str(i), data=np.asarray(blob, np.float32))


def member(group: h5py.Group, name: str) -> h5py.Group | h5py.Dataset:
    """What a group has under a name; raises `ValueError` for a link that may lead to another file."""
    *parents, last = name.split("/")
    for parent in parents:
        group = member(group, parent)
    if not isinstance(group.get(last, getlink=True), h5py.HardLink):
        raise ValueError(
            f"{group.name.rstrip('/')}/{last} is a link, which may lead out of the file"
        )
    return group[last]


def values(dataset: h5py.Dataset) -> np.ndarray:
    """A dataset as float32; raises `ValueError` as `check` does."""
    check(dataset)
    return np.array(dataset, np.float32)


def check(dataset: h5py.Dataset) -> None:
    """Raises `ValueError` for a dataset that is not all in its own file.

    A few bytes can say that a dataset is huge, or that its values stand in any other file.
    """
    if not isinstance(dataset, h5py.Dataset) or dataset.external or dataset.is_virtual:
        raise ValueError(f"{getattr(dataset, 'name', '?')} is no dataset that is all in this file")
    if dataset.nbytes > max(_UNWRITTEN, _DEFLATE * dataset.id.get_storage_size()):
        raise ValueError(f"{dataset.name} says {dataset.nbytes:,} bytes, and has far fewer")


def _collect(group: h5py.Group, prefix: str, found: Found, seen: set[int]) -> None:
    """A name with a slash, `conv1/bn`, is a group in a group."""
    address = h5py.h5o.get_info(group.id).addr
    if address in seen:
        raise ValueError(f"the group {group.name} is its own, or stands twice")
    seen.add(address)
    for key in group:
        item = member(group, key)
        if isinstance(item, h5py.Group):
            _collect(item, f"{prefix}{key}/", found, seen)
        else:
            found.setdefault(prefix[:-1], {})[int(key)] = values(item)


def _fill_shared(found: Found, net: Iterable[pb.LayerParameter]) -> None:
    owners: dict[str, np.ndarray] = {}
    for layer in net:
        for i, spec in enumerate(layer.param):
            if not spec.name:
                continue
            own = found.get(layer.name, {}).get(i)
            if own is not None:
                owners.setdefault(spec.name, own)
            elif spec.name in owners:
                found.setdefault(layer.name, {})[i] = owners[spec.name]
