"""Whether layers go together: blobs that exist, are made once, and can be differentiated.

Source: `Net::Init` and `InsertSplits` of BVLC Caffe 1.0, which stop the process at these mistakes.
Nothing here needs shapes.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from recaffe import real_caffe
from recaffe.errors import NetError
from recaffe.net import graph
from recaffe.proto import caffe_pb2 as pb

# Bottoms that a type takes, at least and at most. What isn't listed takes one.
_MANY = 1 << 30
_BOTTOMS = {
    **dict.fromkeys(graph.DATA | {"Parameter"}, (0, 0)),
    **dict.fromkeys(graph.LOSSES | {"Accuracy", "BatchReindex", "Crop"}, (2, 2)),
    **dict.fromkeys(("Concat", "Convolution", "Deconvolution", "Silence"), (1, _MANY)),
    **dict.fromkeys(("Eltwise", "Filter"), (2, _MANY)),
    **dict.fromkeys(("Bias", "Scale"), (1, 2)),
    "ContrastiveLoss": (3, 3),
    "InfogainLoss": (2, 3),
}
# Types of Caffe that the torch engine hasn't.
_CAFFE_ONLY = frozenset({"HDF5Output", "LSTM", "LSTMUnit", "Python", "RNN", "SPP", "WindowData"})
_NEVER_IN_PLACE = frozenset({"AbsVal", "Flatten", "Reshape", "Split"})
_NO_GRADIENT = frozenset({"Accuracy", "ArgMax", "Threshold"})
# Bottoms that hold labels or indices, which have no gradient.
_LABELS = {
    **dict.fromkeys(graph.CLASS_LOSSES | {"SigmoidCrossEntropyLoss", "BatchReindex"}, (1,)),
    "InfogainLoss": (1, 2),
    "ContrastiveLoss": (2,),
    "Embed": (0,),
}


def unsupported(layer: pb.LayerParameter) -> str:
    """The message for a type that the torch engine hasn't."""
    return (
        f"Layer {layer.name!r} has the type {layer.type!r}, which the torch engine doesn't know. "
        f"{way_out(layer.type)}"
    )


def way_out(kind: str) -> str:
    """What to do about a layer of a type that the torch engine hasn't."""
    if kind in _CAFFE_ONLY:
        return real_caffe.can("train this net")
    return (
        "Neither does BVLC Caffe 1.0. If your own build of Caffe does, train with that; else check "
        "the type's spelling."
    )


def check(layers: Sequence[pb.LayerParameter], inputs: Iterable[str] = ()) -> None:
    """Raises `NetError`, with the layer's name, at the first mistake in a net of one phase.

    `inputs` are blobs that come from outside, if no data layer of the net makes them.
    """
    tops = {top for layer in layers for top in layer.top}
    maker: dict[str, str] = {name: "" for name in inputs if name not in tops}
    reader: dict[str, str] = {}
    named: set[str] = set()
    for layer in layers:
        _check_counts(layer)
        if layer.type in graph.WEIGHTED:
            if layer.name in named:
                raise NetError(
                    f"Two layers of this phase have the name {layer.name!r}; their weights couldn't be "
                    "told apart. Rename one."
                )
            named.add(layer.name)
        for name in layer.bottom:
            if name not in maker:
                raise NetError(
                    f"Layer {layer.name!r}: no layer above makes its bottom {name!r}. Known blobs: "
                    f"{', '.join(list(maker)[-8:]) or 'none'}."
                )
        for i, top in enumerate(layer.top):
            in_place = i < len(layer.bottom) and top == layer.bottom[i]
            _check_top(layer, top, in_place, maker, reader)
        reader |= dict.fromkeys(layer.bottom, layer.name)
        for top in layer.top:
            maker[top] = layer.name
            reader.pop(top, None)
        for top, weight in zip(layer.top, layer.loss_weight, strict=False):
            if weight:
                reader[top] = layer.name
    _check_gradients(layers)


def _check_counts(layer: pb.LayerParameter) -> None:
    least, most = _BOTTOMS.get(layer.type, (1, 1))
    count = len(layer.bottom)
    if layer.type not in _CAFFE_ONLY and not least <= count <= most:
        wanted = (
            f"{least}"
            if least == most
            else f"{least} or {most}"
            if most < _MANY
            else f"{least} or more"
        )
        raise NetError(
            f"Layer {layer.name!r} ({layer.type}) has {count} bottoms; it wants {wanted}."
        )
    for field, values, blobs, kind in (
        ("propagate_down", layer.propagate_down, layer.bottom, "bottom"),
        ("loss_weight", layer.loss_weight, layer.top, "top"),
    ):
        if len(values) not in (0, len(blobs)):
            raise NetError(
                f"Layer {layer.name!r} has {len(values)} {field} for {len(blobs)} {kind}s. Give one for "
                f"each {kind}, or none."
            )


def _check_top(
    layer: pb.LayerParameter, top: str, in_place: bool,
    maker: dict[str, str], reader: dict[str, str],
) -> None:  # fmt: skip
    if not in_place:
        if top in maker or list(layer.top).count(top) > 1:
            other = maker.get(top) or layer.name
            raise NetError(
                f"Layer {layer.name!r} makes the blob {top!r}, which layer {other!r} makes already. "
                "Give one of them another top."
            )
        return
    if layer.type in _NEVER_IN_PLACE:
        raise NetError(
            f"Layer {layer.name!r} ({layer.type}) can't work in place. Give it a top of another name."
        )
    if top in reader or list(layer.bottom).count(top) > 1:
        other = reader.get(top, layer.name)
        raise NetError(
            f"Layer {layer.name!r} works in place on the blob {top!r}, which layer {other!r} uses as it "
            f"was before. Give {layer.name!r} a top of another name."
        )


def _check_gradients(layers: Sequence[pb.LayerParameter]) -> None:
    """Raises `NetError` where a loss would need a gradient that doesn't exist."""
    source = _sources(layers)
    learns = [False] * len(layers)  # whether a layer's tops depend on something that is learned
    for i, layer in enumerate(layers):
        learns[i] = _learns(layer) or any(s is not None and learns[s] for s in source[i])
    reached = [False] * len(layers)  # whether a loss's gradient arrives at a layer's tops
    for i in range(len(layers) - 1, -1, -1):
        layer = layers[i]
        if not (reached[i] or any(graph.loss_weights([layer]).values())):
            continue
        for b, s in enumerate(source[i]):
            skipped = bool(layer.propagate_down) and not layer.propagate_down[b]
            if s is None or not learns[s] or skipped:
                continue
            if layer.type in _NO_GRADIENT:
                raise NetError(
                    f"Layer {layer.name!r} ({layer.type}) has no gradient, but stands between a loss and "
                    f"layers that learn. Set `propagate_down: false` on it, or take the loss away."
                )
            if b in _LABELS.get(layer.type, ()):
                raise NetError(
                    f"Layer {layer.name!r} ({layer.type}) has no gradient for its bottom "
                    f"{layer.bottom[b]!r}, which is computed by layers that learn. Labels and indices must "
                    "come from data, or set propagate_down to false for it."
                )
            reached[s] = True


def _learns(layer: pb.LayerParameter) -> bool:
    """Whether a layer has a parameter of its own that is trained."""
    blobs = graph.blob_count(layer) if layer.type != "BatchNorm" else 0
    return any(i >= len(layer.param) or layer.param[i].lr_mult != 0 for i in range(blobs))


def _sources(layers: Sequence[pb.LayerParameter]) -> list[list[int | None]]:
    """For each layer, which one made each of its bottoms last; None for what comes from outside."""
    last: dict[str, int] = {}
    out: list[list[int | None]] = []
    for i, layer in enumerate(layers):
        out.append([last.get(name) for name in layer.bottom])
        last |= dict.fromkeys(layer.top, i)
    return out
