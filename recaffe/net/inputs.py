"""Shapes of what data layers make, from what the net and its files say, without reading pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import TypeVar

from recaffe.errors import NetError, RecaffeError
from recaffe.net import graph
from recaffe.net.shapes import Shape
from recaffe.proto import caffe_pb2 as pb

T = TypeVar("T")


def source_shapes(
    layers: Sequence[pb.LayerParameter],
    given: tuple[int, int, int] | None = None,
    known: Mapping[str, Shape] = MappingProxyType({}),
) -> dict[str, Shape]:
    """Blob name → shape for the tops of all layers that read data.

    `given` is C×H×W of the pictures as the net sees them, where the user says it; else it follows
    from the source's first record, the mean file, or crop_size with as many channels as there are
    mean values (3 if there are none). Labels have the shape N. `known` are the tops of layers whose
    files were looked into; they stand.

    Raises `NetError` that names the layer if nothing says its shape.
    """
    out: dict[str, Shape] = dict(known)
    for layer in layers:
        if layer.type not in graph.DATA or layer.type == "Input" or set(layer.top) <= set(known):
            continue
        if layer.type == "DummyData":
            try:
                out |= zip(layer.top, dummy_shapes(layer), strict=True)
            except NetError as error:
                raise NetError(f"Layer {layer.name!r} ({layer.type}): {error}") from error
            continue
        batch = batch_size(layer) or 1
        size = given or _picture(layer)
        if size is None:
            raise NetError(
                f"Layer {layer.name!r} ({layer.type}): its source is not here and the net doesn't "
                "say the size of its pictures. Give it with --input C,H,W."
            )
        out |= zip(layer.top, [(batch, *size), *[(batch,)] * len(layer.top)], strict=False)
    return out


def batch_size(layer: pb.LayerParameter) -> int:
    """The batch of a data layer that has one; 0 where it says none."""
    sizes = {
        "Data": layer.data_param.batch_size,
        "ImageData": layer.image_data_param.batch_size,
        "HDF5Data": layer.hdf5_data_param.batch_size,
        "MemoryData": layer.memory_data_param.batch_size,
        "WindowData": layer.window_data_param.batch_size,
    }
    return sizes[layer.type]


def dummy_shapes(layer: pb.LayerParameter) -> list[Shape]:
    """The shape of each top of a DummyData layer; raises `NetError` unless it says them once or all."""
    p, n = layer.dummy_data_param, len(layer.top)
    legacy = {"num": p.num, "channels": p.channels, "height": p.height, "width": p.width}
    if not any(legacy.values()):
        return one_for_each([tuple(s.dim) for s in p.shape], n, "shape")
    if p.shape:
        raise NetError("dummy_data_param has both shape and num, channels, height, width.")
    columns = [one_for_each(list(values), n, name) for name, values in legacy.items()]
    return [tuple(map(int, row)) for row in zip(*columns, strict=True)]


def one_for_each(values: list[T], tops: int, name: str) -> list[T]:
    """A value for each top, of one for all or of as many; raises `NetError` for another number."""
    if len(values) not in (1, tops) or not tops:
        raise NetError(f"{name} stands {len(values)} times for {tops} tops; Caffe wants 1 or all.")
    return values * tops if len(values) == 1 else values


def _picture(layer: pb.LayerParameter) -> tuple[int, int, int] | None:
    p = layer.transform_param
    if layer.type == "MemoryData":
        m = layer.memory_data_param
        return m.channels, m.height, m.width
    record = _record(layer)
    crop = p.crop_size or layer.window_data_param.crop_size
    if crop:
        channels = record[0] if record else len(p.mean_value) if len(p.mean_value) > 1 else 3
        return channels, crop, crop
    return record


def _record(layer: pb.LayerParameter) -> tuple[int, int, int] | None:
    """C×H×W before any crop, from the source or the mean file."""
    from recaffe import mean
    from recaffe.lmdb.read import first_shape

    if layer.type == "ImageData":
        i = layer.image_data_param
        size = (3 if i.is_color else 1, i.new_height, i.new_width)
        return size if all(size) else None
    source, mean_file = layer.data_param.source, layer.transform_param.mean_file
    try:
        if layer.type == "Data" and source and Path(source).is_dir():
            return first_shape(source)
        if mean_file and Path(mean_file).is_file():
            c, h, w = mean.read(mean_file).shape
            return c, h, w
    except RecaffeError:
        return None  # what is wrong with a file is told by what reads it
    return None
