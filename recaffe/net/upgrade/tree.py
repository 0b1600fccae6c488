"""A prototxt's tree in an older form → today's, with comments, order and unknown fields kept."""

from __future__ import annotations

import copy
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from google.protobuf import text_format

from recaffe.errors import NetError
from recaffe.net import parse
from recaffe.net.prototxt import Field, Message
from recaffe.net.prototxt import parse as parse_text
from recaffe.net.tokens import text_of
from recaffe.net.upgrade import tree_v0, v0, v1
from recaffe.net.upgrade.fields import all_comments, append, values
from recaffe.net.upgrade.nets import BATCH_NORM_PARAMS, SOLVERS, input_shapes, upgrade_net
from recaffe.proto import caffe_pb2 as pb

_INPUTS = ("input", "input_shape", "input_dim")


@dataclass
class Upgraded:
    """The tree, and a sentence for each thing that was left out or counts now."""

    tree: Message
    warnings: list[str] = field(default_factory=list)


def upgrade_tree(tree: Message, source: str = "prototxt") -> Upgraded:
    """The tree in today's form; the very same if it is already, else a new one.

    `to_net` of both is the same. Where an unknown field would clash with one of today's form, the
    net is written anew, and the warnings name the comments and unknown fields that went. Raises
    `NetError` as `parse.to_net` does.
    """
    raw = parse.raw_net(tree, source)
    net = pb.NetParameter()
    net.CopyFrom(raw)
    try:
        lost = upgrade_net(net)
    except NetError as error:
        raise NetError(f"{source}: {error}") from error
    if net == raw:
        return Upgraded(tree)
    new = copy.deepcopy(tree)
    strange = {id(f): (f, path) for _, f, path in parse.walk_unknown(new)}
    if v0.needed(raw):
        tree_v0.to_v1(new, raw)
        raw = parse.raw_net(_without_unknown(new, set(strange)), source)
    _edit(new, raw)
    if not _stands_for(new, net, set(strange)):
        new = parse_text(text_format.MessageToString(net))
        lost += [f"{path} is unknown to Caffe and lost" for path in parse.unknown_fields(tree)]
    else:
        still = {id(f) for _, f, _ in parse.walk_unknown(new)}
        lost += [
            f"line {f.line}: {path} is unknown in this older form of nets but not in today's; it is "
            "kept, and it counts now"
            for key, (f, path) in strange.items()
            if key not in still
        ]
    return Upgraded(new, lost + _lost_comments(tree, new))


def upgrade_solver_tree(tree: Message) -> None:
    """Turn `solver_type: ADAM` into `type: "Adam"`, in place; the solver must be a valid one."""
    for f in tree.all("solver_type"):
        kind = pb.SolverParameter.SolverType
        name = str(f.value) if isinstance(f.value, str) else kind.Name(int(f.value))
        f.name, f.raw = "type", f"type: {text_of(SOLVERS[name])}"


def _edit(tree: Message, raw: pb.NetParameter) -> None:
    layers = list(tree.messages("layers"))
    if v1.data_upgrade_needed(raw):
        for layer, proto in zip(layers, raw.layers, strict=True):
            _move_transforms(layer, v1.own_param(proto))
    for layer, proto in zip(layers, raw.layers, strict=True):
        for f in layer.all("type"):
            f.raw = re.sub(r"\w+$", text_of(v1.type_name(proto.type)), f.raw)
        _specs(layer)
    for f in tree.all("layers"):
        f.rename("layer")
    if raw.input:
        _inputs(tree, raw)
    for layer in tree.messages("layer"):
        specs = list(layer.messages("param"))
        if layer.get("type") == "BatchNorm" and len(specs) == BATCH_NORM_PARAMS:
            for spec in specs:
                spec.set("lr_mult", 0)
                spec.set("decay_mult", 0)


def _move_transforms(layer: Message, param: str) -> None:
    if not param:
        return
    own, transform = layer.child(param), layer.child("transform_param")
    for name in v1.MOVED:
        for f in own.all(name):
            # It wins over one that stands in transform_param already, whose comments stay.
            f.lead = "\n".join([*(c for o in transform.all(name) for c in o.comments), f.lead])
            own.remove(name)
            transform.remove(name)
            append(transform, f, name, f.text)


def _specs(layer: Message) -> None:
    """`blobs_lr: 1 blobs_lr: 2 weight_decay: 1 …` → one `param { lr_mult: … }` for each blob."""
    old = [f for f in layer.fields if f.name in v1.SPECS]
    if not old:
        return
    at = layer.fields.index(old[0])
    one_line = "\n" not in layer.render() + layer.end
    layer.remove(*v1.SPECS)
    params: list[Message] = []
    for name, new_name in v1.SPECS.items():
        pairs = [pair for f in old if f.name == name for pair in values(f)]
        while len(params) < len(pairs):
            params.append(layer.add("param", at=at + len(params)))
        for param, (f, text) in zip(params, pairs, strict=False):
            append(param, f, new_name, text)
    if one_line:
        for f in layer.all("param"):
            f.lead, f.tail = "", " "
            assert f.message is not None
            f.message.end = " }"
            for inner in f.message.fields:
                inner.lead = " "


def _inputs(tree: Message, raw: pb.NetParameter) -> None:
    old = [f for f in tree.fields if f.name in _INPUTS]
    places = [i for i, f in enumerate(tree.fields) if f.name == "layer"]
    at = min([tree.fields.index(old[0]), *places])
    tree.remove(*_INPUTS)
    comments = "".join(c + "\n" for f in old for c in all_comments(f))
    shapes = input_shapes(raw)
    if not shapes:
        if comments:
            tree.fields.insert(at, Field("", "", lead="\n" + comments))
        return
    layer = tree.add("layer", at=at)
    tree.fields[at].lead = ("\n" if at else "") + comments
    for f in tree.fields[at + 1 : at + 2]:
        f.lead = "\n" + f.lead.lstrip(" \t\n") if "\n" not in f.lead[:1] else f.lead
    layer.set("name", "input")
    layer.set("type", "Input")
    layer.set("top", *raw.input)
    param = layer.add("input_param")
    for dims in shapes:
        param.add("shape").set("dim", *dims)


def _stands_for(tree: Message, net: pb.NetParameter, unknown: set[int]) -> bool:
    try:
        parse.raw_net(tree)
        return parse.raw_net(_without_unknown(tree, unknown)) == net
    except NetError:
        return False


def _without_unknown(tree: Message, unknown: set[int]) -> Message:
    """A copy that shares its fields, less those with these ids."""
    fields = []
    for f in tree.fields:
        if id(f) in unknown:
            continue
        message = f.message and _without_unknown(f.message, unknown)
        fields.append(Field(f.name, f.raw, message, f.lead, f.tail, f.line))
    return Message(fields, tree.end, tree.depth)


def _lost_comments(old: Message, new: Message) -> list[str]:
    kept = Counter(c for f in new.fields for c in all_comments(f))
    lost = []
    for f in _every(old):
        for comment in f.comments:
            kept[comment] -= 1
            if kept[comment] < 0:
                lost.append(f"the comment {comment!r} near line {f.line} is lost")
    return lost


def _every(tree: Message) -> Iterator[Field]:
    for f in tree.fields:
        yield f
        if f.message is not None:
            yield from _every(f.message)
