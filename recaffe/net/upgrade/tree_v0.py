"""A prototxt's tree in the form of 2013 → that of 2014, in place, comments kept."""

from __future__ import annotations

from recaffe.net.prototxt import Field, Message
from recaffe.net.upgrade import v0
from recaffe.net.upgrade.fields import all_comments, append, move, put_before, values
from recaffe.proto import caffe_pb2 as pb

_NET = {f.name for f in pb.NetParameter.DESCRIPTOR.fields} - {*v0.KEPT_OF_NET}
_LAYER = {f.name for f in pb.V1LayerParameter.DESCRIPTOR.fields} - {*v0.KEPT_OF_LAYER}
_INNER = {f.name for f in pb.V0LayerParameter.DESCRIPTOR.fields}


def to_v1(tree: Message, raw: pb.NetParameter) -> None:
    """Rewrite the tree whose message is `raw`. What V1 has no place for goes, as in `v0.upgrade`;
    fields that Caffe doesn't know stay with their layer."""
    below = v0.folds(raw)
    layers = [f for f in tree.fields if f.name == "layers" and f.message is not None]
    padding = {id(f) for f, x in zip(layers, raw.layers, strict=True) if x.layer.type == v0.PADDING}
    comments: list[str] = []
    for i, (f, proto) in enumerate(zip(layers, raw.layers, strict=True)):
        if id(f) in padding:
            comments += all_comments(f)
            continue
        assert f.message is not None
        _layer(f.message, proto)
        if i in below:
            pad = raw.layers[below[i]]
            f.message.set("bottom", pad.bottom[0])
            param, name = v0.place(proto.layer.type, "pad") or ("", "")
            f.message.child(param).set(name, pad.layer.pad)
        put_before(f, comments)
        comments = []
    tree.fields = [f for f in tree.fields if f.name not in _NET and id(f) not in padding]
    if comments:
        tree.fields.append(Field("", ""))
        put_before(tree.fields[-1], comments)


def _layer(layer: Message, proto: pb.V1LayerParameter) -> None:
    old, layer.fields = layer.fields, []
    inner = [f for f in old if f.name == "layer" and f.message is not None]
    fields = [f for x in inner if x.message is not None for f in x.message.fields]
    first = [f for f in fields if f.name in ("name", "type")]
    for f in first:
        _move(layer, f, proto.layer.type)
    for f in old:
        if f.name not in _LAYER and f not in inner:
            move(layer, f, f.name)
    for f in fields:
        if f not in first:
            _move(layer, f, proto.layer.type)
    if layer.fields:
        put_before(layer.fields[0], [c for f in inner for c in f.comments])
    pad = "\n" + "  " * layer.depth
    comments = Field("", "", layer).comments
    layer.end = "".join(pad + c for c in comments) + pad[:-2] + layer.end[-1:]


def _move(layer: Message, f: Field, kind: str) -> None:
    if f.name not in _INNER:
        move(layer, f, f.name)
        return
    where = v0.place(kind, f.name)
    if where is None:
        return
    param, name = where
    target = layer.child(param) if param else layer
    if f.name == "type":
        append(target, f, name, v0.TYPES[kind])
    elif f.message is not None:
        move(target, f, name)
    else:
        for one, text in values(f):
            if text.startswith("-") and name in ("new_height", "new_width"):
                text = str(int(text, 0) % 2**32)  # they lost their sign; as `v0.put` does
            append(target, one, name, text)
