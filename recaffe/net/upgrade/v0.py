"""Caffe's form of 2013 → that of 2014: parameters by layer type, padding layers folded in."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from google.protobuf.unknown_fields import UnknownFieldSet

from recaffe.errors import NetError
from recaffe.proto import caffe_pb2 as pb

TYPES = {
    "accuracy": "ACCURACY",
    "bnll": "BNLL",
    "concat": "CONCAT",
    "conv": "CONVOLUTION",
    "data": "DATA",
    "dropout": "DROPOUT",
    "euclidean_loss": "EUCLIDEAN_LOSS",
    "flatten": "FLATTEN",
    "hdf5_data": "HDF5_DATA",
    "hdf5_output": "HDF5_OUTPUT",
    "im2col": "IM2COL",
    "images": "IMAGE_DATA",
    "infogain_loss": "INFOGAIN_LOSS",
    "innerproduct": "INNER_PRODUCT",
    "lrn": "LRN",
    "multinomial_logistic_loss": "MULTINOMIAL_LOGISTIC_LOSS",
    "pool": "POOLING",
    "relu": "RELU",
    "sigmoid": "SIGMOID",
    "softmax": "SOFTMAX",
    "softmax_loss": "SOFTMAX_LOSS",
    "split": "SPLIT",
    "tanh": "TANH",
    "window_data": "WINDOW_DATA",
}
_WINDOW = "window_data"
_WEIGHTED = {"conv": "convolution_param", "innerproduct": "inner_product_param"}
_WINDOWED = {"conv": "convolution_param", "pool": "pooling_param"}
_BATCHED = {
    "data": "data_param",
    "hdf5_data": "hdf5_data_param",
    "images": "image_data_param",
    _WINDOW: "window_data_param",
}
# A V0 field → where it stands in V1: (layer type → parameter message, name there).
_BY_TYPE: dict[str, tuple[Mapping[str, str], str]] = {
    "num_output": (_WEIGHTED, "num_output"),
    "biasterm": (_WEIGHTED, "bias_term"),
    "weight_filler": (_WEIGHTED, "weight_filler"),
    "bias_filler": (_WEIGHTED, "bias_filler"),
    "pad": (_WINDOWED, "pad"),
    "kernelsize": (_WINDOWED, "kernel_size"),
    "stride": (_WINDOWED, "stride"),
    "group": ({"conv": "convolution_param"}, "group"),
    "pool": ({"pool": "pooling_param"}, "pool"),
    "dropout_ratio": ({"dropout": "dropout_param"}, "dropout_ratio"),
    "local_size": ({"lrn": "lrn_param"}, "local_size"),
    "alpha": ({"lrn": "lrn_param"}, "alpha"),
    "beta": ({"lrn": "lrn_param"}, "beta"),
    "k": ({"lrn": "lrn_param"}, "k"),
    "source": ({**_BATCHED, "infogain_loss": "infogain_loss_param"}, "source"),
    "batchsize": (_BATCHED, "batch_size"),
    "rand_skip": ({"data": "data_param", "images": "image_data_param"}, "rand_skip"),
    "shuffle_images": ({"images": "image_data_param"}, "shuffle"),
    "new_height": ({"images": "image_data_param"}, "new_height"),
    "new_width": ({"images": "image_data_param"}, "new_width"),
    "concat_dim": ({"concat": "concat_param"}, "concat_dim"),
    "det_fg_threshold": ({_WINDOW: "window_data_param"}, "fg_threshold"),
    "det_bg_threshold": ({_WINDOW: "window_data_param"}, "bg_threshold"),
    "det_fg_fraction": ({_WINDOW: "window_data_param"}, "fg_fraction"),
    "det_context_pad": ({_WINDOW: "window_data_param"}, "context_pad"),
    "det_crop_mode": ({_WINDOW: "window_data_param"}, "crop_mode"),
}
_TRANSFORM = {
    "scale": "scale",
    "meanfile": "mean_file",
    "cropsize": "crop_size",
    "mirror": "mirror",
}
KEPT_OF_NET = ("name", "layers", "input", "input_dim", "force_backward")
KEPT_OF_LAYER = ("bottom", "top", "layer")
PADDING = "padding"


def needed(net: pb.NetParameter) -> bool:
    """Whether any layer is written in the form of 2013."""
    return any(layer.HasField("layer") for layer in net.layers)


def upgrade(net: pb.NetParameter) -> list[str]:
    """Rewrite `net` in place as V1; a sentence for each field that had to be left out.

    Raises `NetError` for a layer type that Caffe doesn't know, or a padding layer it can't fold.
    """
    old = pb.NetParameter()
    old.CopyFrom(net)
    lost = [
        f"field {d.name!r} of the net is not carried over"
        for d, _ in old.ListFields()
        if d.name not in KEPT_OF_NET
    ] + unknown_numbers(old, "the net")
    below = folds(old)
    for i, source in below.items():
        old.layers[i].layer.pad = old.layers[source].layer.pad
        old.layers[i].bottom[0] = old.layers[source].bottom[0]
    net.Clear()
    for name in KEPT_OF_NET:
        if name != "layers":
            put(net, name, old)
    for layer in old.layers:
        if layer.layer.type != PADDING:
            lost += _layer(layer, net.layers.add())
    return lost


def put(target: Any, name: str, source: Any, old_name: str = "") -> None:
    """Set field `name` of message `target` to field `old_name` (or `name`) of `source`, if that is
    set; a repeated target field grows by it."""
    old_name = old_name or name
    old = source.DESCRIPTOR.fields_by_name[old_name]
    if not (len(getattr(source, old_name)) if old.is_repeated else source.HasField(old_name)):
        return
    value = getattr(source, old_name)
    new = target.DESCRIPTOR.fields_by_name[name]
    if old.is_repeated:
        getattr(target, name).extend(value)
    elif new.is_repeated:
        getattr(target, name).append(value)
    elif new.message_type is not None:
        getattr(target, name).CopyFrom(value)
    else:
        # V0's sizes of pictures have a sign, today's don't; C++ wraps.
        setattr(target, name, value % 2**32 if new.type == new.TYPE_UINT32 else value)


def unknown_numbers(message: Any, where: str) -> list[str]:
    """A sentence for each field of a binary message whose number Caffe doesn't know."""
    fields = UnknownFieldSet(message)
    numbers = {fields[i].field_number for i in range(len(fields))}
    return [f"unknown field number {n} of {where} is not carried over" for n in sorted(numbers)]


def folds(net: pb.NetParameter) -> dict[int, int]:
    """Index of a conv or pool → index of the padding layer below it, whose pad and bottom it gets.

    Raises `NetError` for a padding layer that feeds another type, and for unknown blobs.
    """
    layers = net.layers
    writer: dict[str, int | None] = dict.fromkeys(net.input)
    found = {}
    for i, connection in enumerate(layers):
        kind = connection.layer.type
        for blob in connection.bottom:
            if blob not in writer:
                raise NetError(
                    f"Layer {connection.layer.name!r} reads blob {blob!r}, which no layer before it "
                    "makes. Check its `bottom`."
                )
            source = writer[blob]
            if source is None or layers[source].layer.type != PADDING:
                continue
            pad = layers[source]
            if kind not in _WINDOWED:
                raise NetError(
                    f"Padding layer {pad.layer.name!r} feeds layer {connection.layer.name!r} of type "
                    f"{kind!r}; Caffe folds padding only into conv and pool."
                )
            if (len(connection.bottom), len(pad.bottom), len(pad.top)) != (1, 1, 1):
                raise NetError(
                    f"Padding layer {pad.layer.name!r} and the layer above it, "
                    f"{connection.layer.name!r}, must have one bottom and one top each."
                )
            found[i] = source
        for blob in connection.top:
            writer[blob] = i
    return found


def place(kind: str, field: str) -> tuple[str, str] | None:
    """(parameter message or "", name) in V1 of a V0 field of a layer of type `kind`; None where it
    means nothing."""
    if field in ("name", "type", "blobs", "blobs_lr", "weight_decay"):
        return "", field
    if field in _TRANSFORM:
        return "transform_param", _TRANSFORM[field]
    if field == "hdf5_output_param":
        return ("", field) if kind == "hdf5_output" else None
    params, name = _BY_TYPE.get(field, ({}, ""))
    return (params[kind], name) if kind in params else None


def _layer(old: pb.V1LayerParameter, new: pb.V1LayerParameter) -> list[str]:
    new.bottom.extend(old.bottom)
    new.top.extend(old.top)
    inner = old.layer
    name = f"layer {inner.name or old.name!r}"
    lost = [
        f"field {d.name!r} of {name} is not carried over"
        for d, _ in old.ListFields()
        if d.name not in KEPT_OF_LAYER
    ] + unknown_numbers(old, name)
    lost += unknown_numbers(inner, name)
    kind = inner.type
    for field, _ in inner.ListFields():
        where = place(kind, field.name)
        if where is None:
            lost.append(f"field {field.name!r} of {name} means nothing for type {kind!r}")
        elif field.name == "type":
            if kind not in TYPES:
                raise NetError(
                    f"L{name[1:]} is of type {kind!r}, which Caffe's form of 2013 doesn't have. It "
                    f"has {', '.join(TYPES)}, and {PADDING}."
                )
            new.type = getattr(pb.V1LayerParameter, TYPES[kind])
        else:
            param, there = where
            put(getattr(new, param) if param else new, there, inner, field.name)
    return lost
