"""train_val.prototxt → deploy.prototxt: Input in front, Softmax at the end, nothing between lost."""

from __future__ import annotations

import copy

from recaffe.net import graph
from recaffe.net.parse import to_layer, to_net
from recaffe.net.prototxt import Message
from recaffe.proto import caffe_pb2 as pb


def deploy(train_val: Message, shape: tuple[int, int, int], batch: int = 1) -> Message:
    """The deploy net of a (patched) train_val tree, as a new tree.

    `shape` is C×H×W of what the net sees, after any crop. Layers that the class probabilities
    don't need (auxiliary heads, losses, accuracies) go; phase rules go; the rest stays as written.
    """
    tree = copy.deepcopy(train_val)
    chain = graph.of_phase(to_net(tree), pb.TEST)
    loss = graph.main_loss(chain)
    scores = chain[loss].bottom[0]
    kept = {chain[i].name for i in graph.ancestors(chain, loss)} - {chain[loss].name}
    data = next(x for x in chain if x.type in graph.DATA)
    fields = []
    for f in tree.fields:
        if f.name == "layer" and f.message is not None:
            proto = to_layer(f.message)
            if proto.type in graph.DATA or proto.name not in kept:
                continue
            if not graph.included(proto, pb.TEST):
                continue
            f.message.remove("include", "exclude")
        fields.append(f)
    tree.fields = fields
    first = next((i for i, f in enumerate(fields) if f.name == "layer"), len(fields))
    layer = tree.add("layer", at=first)
    layer.set("name", data.name)
    layer.set("type", "Input")
    layer.set("top", data.top[0])
    layer.add("input_param").add("shape").set("dim", batch, *shape)
    if chain[loss].type == "SoftmaxWithLoss":
        layer = tree.add("layer")
        layer.set("name", "prob")
        layer.set("type", "Softmax")
        layer.set("bottom", scores)
        layer.set("top", "prob")
    for f in tree.fields[first : first + 2]:
        f.lead = "\n" + f.lead.lstrip("\n") if f.lead else "\n"
    return tree
