"""What a net is made of: phases, producers, heads, ancestors."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence

from recaffe.errors import NetError
from recaffe.proto import caffe_pb2 as pb

Layer = pb.LayerParameter
WEIGHTED = frozenset(
    {
        "Convolution", "Deconvolution", "InnerProduct", "Embed", "Scale", "Bias", "BatchNorm", "PReLU",
        "Parameter",
    }
)  # fmt: skip
CLASSIFIERS = frozenset({"Convolution", "InnerProduct"})
DATA = frozenset(
    {"Data", "ImageData", "HDF5Data", "MemoryData", "WindowData", "Input", "DummyData"}
)
LOSSES = frozenset(
    {
        "SoftmaxWithLoss", "SigmoidCrossEntropyLoss", "HingeLoss", "EuclideanLoss",
        "MultinomialLogisticLoss", "InfogainLoss", "ContrastiveLoss",
    }
)  # fmt: skip
CLASS_LOSSES = frozenset(
    {"SoftmaxWithLoss", "HingeLoss", "MultinomialLogisticLoss", "InfogainLoss"}
)


def included(layer: Layer, phase: int, level: int = 0, stages: Sequence[str] = ()) -> bool:
    """Whether a net in this state has the layer, as Caffe's FilterNet decides.

    Raises `NetError` if the layer has both `include` and `exclude`.
    """
    if layer.include and layer.exclude:
        raise NetError(f"Layer {layer.name!r} has both include and exclude; Caffe allows one kind.")
    if layer.include:
        return any(_meets(rule, phase, level, stages) for rule in layer.include)
    return not any(_meets(rule, phase, level, stages) for rule in layer.exclude)


def _meets(rule: pb.NetStateRule, phase: int, level: int, stages: Sequence[str]) -> bool:
    if rule.HasField("phase") and rule.phase != phase:
        return False
    if rule.HasField("min_level") and level < rule.min_level:
        return False
    if rule.HasField("max_level") and level > rule.max_level:
        return False
    return all(s in stages for s in rule.stage) and not any(s in stages for s in rule.not_stage)


def of_phase(net: pb.NetParameter, phase: int) -> list[Layer]:
    """The layers of one phase, in order. A loss without a top gets one, as Caffe gives it."""
    state = net.state
    stages = list(state.stage)
    return [_with_top(x) for x in net.layer if included(x, phase, state.level, stages)]


def _with_top(layer: Layer) -> Layer:
    if layer.type not in LOSSES or layer.top:
        return layer
    whole = Layer()
    whole.CopyFrom(layer)
    whole.top.append(f"(automatic) {layer.name}")
    return whole


def inputs_of(layers: Sequence[Layer], index: int) -> list[int]:
    """Indices of the layers whose tops this layer reads (the last writer before it counts)."""
    made = (_maker(layers, index, blob) for blob in layers[index].bottom)
    return [i for i in made if i is not None]


def _maker(layers: Sequence[Layer], index: int, blob: str) -> int | None:
    """Index of the last layer before `index` that writes the blob."""
    return next((i for i in range(index - 1, -1, -1) if blob in layers[i].top), None)


def ancestors(layers: Sequence[Layer], index: int) -> set[int]:
    """The layer and all that it depends on, as indices."""
    seen: set[int] = set()
    todo = [index]
    while todo:
        i = todo.pop()
        if i not in seen:
            seen.add(i)
            todo += inputs_of(layers, i)
    return seen


def class_losses(layers: Sequence[Layer]) -> list[int]:
    """Indices of the losses that compare class scores with labels, in order."""
    return [i for i, x in enumerate(layers) if x.type in CLASS_LOSSES and len(x.bottom) > 1]


def head_of(layers: Sequence[Layer], loss: int) -> list[int]:
    """The classifier below a loss: the last Convolution or InnerProduct, and any weighted layer
    between the two. Raises `NetError` if there is none, or if branches have one each."""
    found = _heads_below(layers, loss)
    if not found:
        raise NetError(
            f"Loss layer {layers[loss].name!r} has no Convolution or InnerProduct below it, so "
            "there is no classifier to replace."
        )
    if len(found) > 1:
        names = [layers[head[0]].name for head in found]
        raise NetError(
            f"The scores of loss layer {layers[loss].name!r} come from several layers: "
            f"{', '.join(names)}. Name those that make the scores of classes in `heads`, such as "
            f"heads: [{names[0]}]."
        )
    return found[0]


def _heads_below(layers: Sequence[Layer], index: int) -> list[list[int]]:
    """For each branch below a layer its classifier and the weighted layers between, without doubles."""
    layer = layers[index]
    # The first bottom holds the scores; a loss's second the labels, Crop's second a size.
    bottoms = layer.bottom[:1] if layer.type in LOSSES or layer.type == "Crop" else layer.bottom
    found: list[list[int]] = []
    for blob in bottoms:
        below = _maker(layers, index, blob)
        if below is None or layers[below].type in DATA:
            continue
        if layers[below].type in CLASSIFIERS:
            heads = [[below]]
        else:
            own = [below] if layers[below].type in WEIGHTED else []
            heads = [[*head, *own] for head in _heads_below(layers, below)]
        found += [head for head in heads if head not in found]
    return found


def heads(net: pb.NetParameter, named: Sequence[str] = ()) -> list[str]:
    """Names of all layers that make up the net's classifier heads, in order; `named` are the user's.

    Source: a head is the last weighted layer before a loss on labels; GoogLeNet has three. Raises
    `NetError` where the net doesn't say which, or has no layer of a user's name.
    """
    order = [x.name for x in net.layer]
    if named:
        _check_named(net, named)
        return sorted(named, key=order.index)
    names: dict[str, None] = {}
    found = False
    for phase in (pb.TRAIN, pb.TEST):
        layers = of_phase(net, phase)
        for loss in class_losses(layers):
            found = True
            for i in head_of(layers, loss):
                names[layers[i].name] = None
    if not found:
        raise NetError(
            "The net has no loss on labels (SoftmaxWithLoss or the like). Fine-tuning wants a "
            "train_val.prototxt, or a deploy.prototxt with one Input and one output."
        )
    return sorted(names, key=order.index)


def _check_named(net: pb.NetParameter, named: Sequence[str]) -> None:
    able = [x.name for x in net.layer if x.type in CLASSIFIERS]
    for name in named:
        if name not in able:
            near = difflib.get_close_matches(name, able, 3) or able[-3:]
            raise NetError(
                f"heads: the net has no Convolution or InnerProduct {name!r}. "
                f"Did you mean {' or '.join(near)}?"
            )
    for phase in (pb.TRAIN, pb.TEST):
        layers = of_phase(net, phase)
        for loss in class_losses(layers):
            if not {layers[i].name for i in ancestors(layers, loss)} & set(named):
                raise NetError(
                    f"heads: loss layer {layers[loss].name!r} depends on none of {', '.join(named)}; "
                    "its classifier would keep the old classes. Name it too."
                )


def main_loss(layers: Sequence[Layer]) -> int:
    """Index of the loss whose scores count: the last one (others are auxiliary heads)."""
    losses = class_losses(layers)
    if not losses:
        raise NetError("The net has no loss on labels in this phase.")
    return losses[-1]


def blob_count(layer: Layer) -> int:
    """How many parameter blobs a layer has."""
    if layer.type in ("Convolution", "Deconvolution"):
        return 1 + layer.convolution_param.bias_term
    if layer.type == "InnerProduct":
        return 1 + layer.inner_product_param.bias_term
    if layer.type == "Embed":
        return 1 + layer.embed_param.bias_term
    if layer.type == "Scale":
        return (len(layer.bottom) == 1) + layer.scale_param.bias_term
    if layer.type == "Bias":
        return int(len(layer.bottom) == 1)
    return {"BatchNorm": 3, "PReLU": 1, "Parameter": 1}.get(layer.type, 0)


def outputs(layers: Iterable[Layer]) -> list[str]:
    """The blobs that no layer reads, in Caffe's order, which is that of the alphabet.

    A layer that works in place makes its blob anew, so a net's last one counts.
    """
    free: set[str] = set()
    for layer in layers:
        free.difference_update(layer.bottom)
        free.update(layer.top)
    return sorted(free)


def loss_weights(layers: Iterable[Layer]) -> dict[str, float]:
    """Blob → its weight in the net's loss, for each top that has one (not 0).

    A loss layer's first top weighs 1 if nothing is said; any other layer's top can be a loss too.
    """
    out: dict[str, float] = {}
    for layer in layers:
        said = list(layer.loss_weight)
        for i, top in enumerate(layer.top):
            weight = said[i] if i < len(said) else float(i == 0 and layer.type in LOSSES)
            if weight:
                out[top] = weight
    return out


def names(layers: Iterable[Layer]) -> list[str]:
    """Layer names in order."""
    return [x.name for x in layers]


def judges(layers: Sequence[Layer]) -> tuple[str, str]:
    """The top-1 accuracy's and the main loss's blob of a test net; empty for what it hasn't."""
    top_1 = [x.top[0] for x in layers if x.type == "Accuracy" and x.accuracy_param.top_k == 1]
    losses = [x.top[0] for x in layers if x.type in CLASS_LOSSES and x.top]
    losses = losses or [x.top[0] for x in layers if x.type in LOSSES and x.top]
    return top_1[-1] if top_1 else "", losses[-1] if losses else ""
