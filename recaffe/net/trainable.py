"""A deploy net, or one of a single phase → the net that trains: many nets were published so."""

from __future__ import annotations

import copy
from collections.abc import Sequence

from recaffe.errors import NetError
from recaffe.net import graph
from recaffe.net.parse import to_layer, to_net
from recaffe.net.prototxt import Message
from recaffe.net.tokens import Ident
from recaffe.proto import caffe_pb2 as pb

_PARAMS = {"Convolution": "convolution_param", "InnerProduct": "inner_product_param"}


_FED = ("Data", "ImageData")


def feed_both_phases(tree: Message, source: str) -> list[str]:
    """Give a net with one data layer, in today's form, one for each phase; returns what was done.

    Nets of 2013 were published as two files, of which one trains; and where a data layer says no
    phase, it serves both. A net with other or more data layers is left alone.
    """
    net = to_net(tree, source)
    phases = (pb.TRAIN, pb.TEST)
    data = [x for x in net.layer if x.type in graph.DATA]
    if len(data) != 1 or data[0].type not in _FED:
        return []
    served = [p for p in phases if graph.included(data[0], p)]
    at = next(
        i
        for i, f in enumerate(tree.fields)
        if f.name == "layer" and f.message is not None and f.message.get("name") == data[0].name
    )
    own = tree.fields[at].message
    assert own is not None
    other = tree.add("layer", at=at + 1)
    other.fields = copy.deepcopy(own.fields)
    first = served[0] if served else pb.TRAIN
    for layer, phase in ((own, first), (other, pb.TEST if first == pb.TRAIN else pb.TRAIN)):
        layer.remove("include", "exclude")
        layer.add("include").set("phase", Ident("TRAIN" if phase == pb.TRAIN else "TEST"))
    return [f"{source} has one data layer, {data[0].name!r}: it got one for each phase"]


def name_losses(tree: Message, source: str) -> None:
    """Give each loss without a top one of the layer's name: Caffe's log calls all of them `(automatic)`."""
    net = to_net(tree, source)
    taken = {blob for layer in net.layer for blob in (*layer.bottom, *layer.top)}
    for layer in tree.messages("layer"):
        if layer.get("type") in graph.LOSSES and not layer.values("top"):
            name = str(layer.get("name"))
            while name in taken:
                name += "_loss"
            taken.add(name)
            layer.set("top", name)


def make_trainable(tree: Message, source: str, heads: Sequence[str] = ()) -> list[str]:
    """Give a deploy net, in today's form, data layers and a loss, in place; returns what was done.

    A net that has a loss on labels is left alone, and so is one that isn't a deploy net: one Input
    layer of one blob. The Softmax at its end becomes SoftmaxWithLoss; layers without a filler get
    xavier. Raises `NetError` if it has several outputs, of which `heads` name none or many.
    """
    net = to_net(tree, source)
    layers = graph.of_phase(net, pb.TEST)
    given = [x for x in layers if x.type in graph.DATA]
    if graph.class_losses(layers) or len(given) != 1:
        return []
    if given[0].type != "Input" or len(given[0].top) != 1:
        return []
    last = _last(layers, source, heads)
    scores = layers[last].bottom[0] if layers[last].type == "Softmax" else layers[last].top[0]
    label = "label" if all("label" not in x.top for x in layers) else "class_label"
    places = [i for i, f in enumerate(tree.fields) if f.name == "layer"]
    for i in reversed(places):
        message = tree.fields[i].message
        assert message is not None
        if message.get("name") == given[0].name:
            tree.fields[i : i + 1] = []
            _add_data(tree, i, given[0].top[0], label)
        elif layers[last].type == "Softmax" and message.get("name") == layers[last].name:
            tree.fields[i : i + 1] = []
        else:
            _fill(message)
    loss = tree.add("layer")
    loss.set("name", "loss")
    loss.set("type", "SoftmaxWithLoss")
    loss.set("bottom", scores, label)
    loss.set("top", "loss")
    return [f"{source} is a deploy net: it got data layers, and a loss on {scores!r}"]


def _last(layers: Sequence[pb.LayerParameter], source: str, heads: Sequence[str]) -> int:
    """Index of the layer that makes the net's output; of several, the one above a layer in `heads`."""
    made: list[int] = []
    for blob in graph.outputs(layers):
        made.append(max(i for i, x in enumerate(layers) if blob in x.top))
    able = [
        i
        for i in made
        if not heads or {layers[j].name for j in graph.ancestors(layers, i)} & set(heads)
    ]
    if len(able) != 1:
        names = ", ".join(layers[i].name for i in made)
        raise NetError(
            f"{source} is a deploy net with {len(made)} outputs ({names}), and it isn't clear which one "
            "holds the scores of classes. Name the layer that makes them in `heads`."
        )
    return able[0]


def _add_data(tree: Message, at: int, data: str, label: str) -> None:
    """Data layers in the place of Input; their sources are patched in later."""
    for phase in ("TEST", "TRAIN"):
        layer = tree.add("layer", at=at)
        layer.set("name", data)
        layer.set("type", "Data")
        layer.set("top", data, label)
        layer.add("include").set("phase", Ident(phase))


def _fill(message: Message) -> None:
    """A filler for weights that have none: Caffe would start them at 0, and they would stay there."""
    param = _PARAMS.get(to_layer(message).type)
    if param and not list(message.child(param).messages("weight_filler")):
        message.child(param).add("weight_filler").set("type", "xavier")
