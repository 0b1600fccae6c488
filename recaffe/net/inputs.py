"""Shapes of what data layers make, from what the net and its files say, without reading pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

from recaffe.errors import NetError, RecaffeError
from recaffe.net import graph
from recaffe.net.shapes import Shape
from recaffe.proto import caffe_pb2 as pb


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
            out |= zip(layer.top, _dummy(layer), strict=False)
            continue
        batch = _batch(layer)
        size = given or _picture(layer)
        if size is None:
            raise NetError(
                f"Layer {layer.name!r} ({layer.type}): its source is not here and the net doesn't "
                "say the size of its pictures. Give it with --input C,H,W."
            )
        out |= zip(layer.top, [(batch, *size), *[(batch,)] * len(layer.top)], strict=False)
    return out


def _batch(layer: pb.LayerParameter) -> int:
    if layer.type == "Data":
        return layer.data_param.batch_size or 1
    if layer.type == "ImageData":
        return layer.image_data_param.batch_size
    if layer.type == "HDF5Data":
        return layer.hdf5_data_param.batch_size or 1
    if layer.type == "MemoryData":
        return layer.memory_data_param.batch_size or 1
    return layer.window_data_param.batch_size or 1


def _dummy(layer: pb.LayerParameter) -> list[Shape]:
    p = layer.dummy_data_param
    shapes: list[Shape] = [tuple(s.dim) for s in p.shape]
    shapes = shapes or list(zip(p.num, p.channels, p.height, p.width, strict=False))
    return shapes * len(layer.top) if len(shapes) == 1 else shapes


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
