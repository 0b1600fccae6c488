"""A published train_val.prototxt → the same net for your labels, by editing its tree."""

from __future__ import annotations

import difflib
from dataclasses import dataclass, field

from recaffe.errors import NetError
from recaffe.net import graph
from recaffe.net.parse import to_layer, to_net, unknown_fields
from recaffe.net.prototxt import Message
from recaffe.net.tokens import Ident
from recaffe.proto import caffe_pb2 as pb


@dataclass(frozen=True)
class PatchSettings:
    """What the patch puts in. Either `mean_file` or `mean_values` (BGR) or neither is set.

    `head_lr_mult` None leaves the heads' own rates: from scratch, no layer is newer than another.
    `heads` are the classifiers' names where the net doesn't say which they are.
    """

    suffix: str
    classes: int
    train_source: str
    test_source: str
    train_batch: int
    test_batch: int
    crop_size: int = 0
    mirror: bool = True
    mean_file: str = ""
    mean_values: tuple[float, ...] = ()
    head_lr_mult: tuple[float, float] | None = (10, 20)
    freeze_to: str = ""
    heads: tuple[str, ...] = ()


@dataclass
class Patched:
    """The edited tree, the heads' names (old → new), the frozen layers, and what to tell the user."""

    tree: Message
    heads: dict[str, str]
    frozen: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


def patch(tree: Message, settings: PatchSettings, source: str = "train_val.prototxt") -> Patched:
    """Edit `tree` in place for new data and labels.

    Data layers get sources, batch sizes, crop, mirror and mean; *every* classifier head is renamed
    `NAME_suffix` with its own learning rates, and all references follow; layers up to `freeze_to`
    get rate 0; TEST has top-1 accuracy, and top-5 where there are more than 5 classes.

    Raises `NetError` if the net has no data layer, no head, or no layer `freeze_to`.
    """
    net = to_net(tree, source)
    out = Patched(
        tree, {name: f"{name}_{settings.suffix}" for name in graph.heads(net, settings.heads)}
    )
    out.warnings += [
        f"Caffe 1.0 doesn't know this field; it is kept: {u}" for u in unknown_fields(tree)
    ]
    _data_layers(tree, net, settings, source)
    if settings.freeze_to:
        out.frozen = _freeze(tree, net, settings.freeze_to, set(out.heads))
    _rename_heads(tree, out, settings)
    _accuracy(tree, settings)
    return out


def layers(tree: Message) -> list[Message]:
    """The tree's layers, in order."""
    return list(tree.messages("layer"))


def _data_layers(tree: Message, net: pb.NetParameter, s: PatchSettings, source: str) -> None:
    phases = set()
    for layer in layers(tree):
        kind = layer.get("type")
        if kind not in ("Data", "ImageData"):
            if kind in graph.DATA:
                raise NetError(
                    f"{source}: layer {layer.get('name')!r} is of type {kind}; recaffe feeds nets "
                    "whose data layers are Data or ImageData. Change its type to Data."
                )
            continue
        if kind == "ImageData":
            layer.set("type", "Data")
            for f in layer.all("image_data_param"):
                f.name, f.raw = "data_param", f.raw.replace("image_data_param", "data_param", 1)
            layer.child("data_param").remove(
                *(f.name for f in pb.ImageDataParameter.DESCRIPTOR.fields)
            )
        proto = to_layer(layer)
        training = graph.included(proto, pb.TRAIN)
        testing = graph.included(proto, pb.TEST)
        phases |= {p for p, used in ((pb.TRAIN, training), (pb.TEST, testing)) if used}
        if training and testing:
            raise NetError(
                f"{source}: data layer {layer.get('name')!r} serves TRAIN and TEST at once. Write one "
                "for each, with `include { phase: … }`."
            )
        _fill_data(layer, s, training)
    if phases != {pb.TRAIN, pb.TEST}:
        raise NetError(
            f"{source} lacks a data layer for {'TRAIN' if pb.TRAIN not in phases else 'TEST'}. "
            "Fine-tuning wants a train_val.prototxt with one for each phase."
        )


def _fill_data(layer: Message, s: PatchSettings, training: bool) -> None:
    transform = layer.child("transform_param")
    transform.remove("mean_file", "mean_value", "mirror", "crop_size")
    if training and s.mirror:
        transform.set("mirror", True)
    if s.crop_size:
        transform.set("crop_size", s.crop_size)
    if s.mean_file:
        transform.set("mean_file", s.mean_file)
    if s.mean_values:
        transform.set("mean_value", *s.mean_values)
    if not transform.fields:
        layer.remove("transform_param")
    data = layer.child("data_param")
    data.set("source", s.train_source if training else s.test_source)
    data.set("batch_size", s.train_batch if training else s.test_batch)
    data.set("backend", Ident("LMDB"))
    data.remove("rand_skip")


def _rename_heads(tree: Message, out: Patched, s: PatchSettings) -> None:
    blobs = {}
    for layer in layers(tree):
        old = str(layer.get("name"))
        if old not in out.heads:
            continue
        layer.set("name", out.heads[old])
        if old in layer.values("top"):
            blobs[old] = out.heads[old]
        kind = str(layer.get("type"))
        if kind in graph.CLASSIFIERS:
            name = "convolution_param" if kind == "Convolution" else "inner_product_param"
            layer.child(name).set("num_output", s.classes)
        if s.head_lr_mult is not None:
            _set_rates(layer, s.head_lr_mult, out.warnings)
    for layer in layers(tree):
        for name in ("bottom", "top"):
            values = [blobs.get(str(v), v) for v in layer.values(name)]
            if values and values != layer.values(name):
                layer.set(name, *values)


def _set_rates(layer: Message, rates: tuple[float, float], warnings: list[str]) -> None:
    count = graph.blob_count(to_layer(layer))
    if layer.get("type") == "BatchNorm":
        return  # its blobs are statistics; Caffe itself keeps their rates at 0
    params = _params(layer, count)
    for i, param in enumerate(params):
        if param.get("name") is not None:
            warnings.append(
                f"Head {layer.get('name')!r} shared its parameter {param.get('name')!r}; "
                "the new head has its own."
            )
            param.remove("name", "share_mode")
        param.set("lr_mult", _whole(rates[min(i, 1)]))


def _whole(rate: float) -> float:
    return int(rate) if rate == int(rate) else rate


def _params(layer: Message, count: int) -> list[Message]:
    """The layer's first `count` param messages, made before its own parameters if missing."""
    params = list(layer.messages("param"))
    while len(params) < count:
        places = [
            i for i, f in enumerate(layer.fields) if f.name in ("param", "top", "bottom", "type")
        ]
        params.append(layer.add("param", at=max(places) + 1))
    return params[:count]


def _freeze(tree: Message, net: pb.NetParameter, last: str, heads: set[str]) -> list[str]:
    chain = graph.of_phase(net, pb.TRAIN)
    order = graph.names(chain)
    if last not in order:
        near = difflib.get_close_matches(last, order, n=3)
        raise NetError(
            f"freeze_to: the net has no layer {last!r}. "
            + (f"Did you mean {' or '.join(near)}?" if near else f"It has {', '.join(order)}.")
        )
    below = {chain[i].name for i in graph.ancestors(chain, order.index(last))}
    if below & heads:
        raise NetError(f"freeze_to: {last!r} would freeze the new classifier. Name a lower layer.")
    frozen = []
    for layer in layers(tree):
        if layer.get("name") in below:
            count = graph.blob_count(to_layer(layer))
            for param in _params(layer, count):
                param.set("lr_mult", 0)
                param.set("decay_mult", 0)
            if count:
                frozen.append(str(layer.get("name")))
    return frozen


def _accuracy(tree: Message, s: PatchSettings) -> None:
    """Top-1 in TEST, top-5 too where there are more than 5 classes, on the main head."""
    for layer in layers(tree):
        if layer.get("type") == "Accuracy" and _top_k(layer) >= s.classes:
            tree.fields = [f for f in tree.fields if f.message is not layer]
    chain = graph.of_phase(to_net(tree), pb.TEST)
    loss = chain[graph.main_loss(chain)]
    scores, label = loss.bottom[0], loss.bottom[1]
    have = {x.accuracy_param.top_k for x in chain if x.type == "Accuracy" and x.bottom[0] == scores}
    taken = {x.name for x in chain} | {t for x in chain for t in x.top}
    for k in (1, 5) if s.classes > 5 else (1,):
        if k not in have:
            name = _free("accuracy" if k == 1 else "accuracy_top5", taken)
            layer = tree.add("layer")
            layer.set("name", name)
            layer.set("type", "Accuracy")
            layer.set("bottom", scores, label)
            layer.set("top", name)
            layer.add("include").set("phase", Ident("TEST"))
            if k != 1:
                layer.add("accuracy_param").set("top_k", k)


def _top_k(layer: Message) -> int:
    for param in layer.messages("accuracy_param"):
        return int(param.get("top_k", 1) or 1)
    return 1


def _free(name: str, taken: set[str]) -> str:
    while name in taken:
        name += "_"
    return name
