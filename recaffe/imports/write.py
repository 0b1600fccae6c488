"""A state dict → a folder with the net, its weights, and the config's keys that belong to them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import yaml

from recaffe.config import MODELS, model_card
from recaffe.errors import NetError, WeightsError
from recaffe.files import sha256, write_aside
from recaffe.imports import edit, state
from recaffe.imports.known import KNOWN, Known, Pixels
from recaffe.imports.rules import State, blobs, compare
from recaffe.net import parse, weights
from recaffe.net.prepare import walk_train
from recaffe.net.prototxt import Message
from recaffe.net.shapes import LayerShapes
from recaffe.proto import caffe_pb2 as pb

# About 1/(255·0.226): what the net sees is as large as in PyTorch, so that learning rates from there
# do. With 1, all of it goes into the first convolution, whose rate then counts 3,400 times as much.
SCALE = 0.017


@dataclass(frozen=True)
class Imported:
    """The net's text and weights, and the `train` keys of a config for them (without paths)."""

    train_val: str
    weights: pb.NetParameter
    train: dict[str, object]


def build(known: Known, name: str, values: State, pixels: Pixels, scale: float) -> Imported:
    """The net for `values`, and its weights.

    The first convolution is turned from RGB to BGR and takes what `scale` leaves of the division by
    255·std; the mean is subtracted before it, so that a padded zero stays zero.
    Raises `WeightsError` where the state dict isn't this net's.
    """
    values = _named(values, known)
    head = values.get(f"{known.head}.weight")
    tree = _tree(known, 1000 if head is None or not head.ndim else head.shape[0])
    mean = [round(255 * m, 4) for m in reversed(pixels.mean)]
    _pictures(tree, known.crop_size, mean, scale)
    tree.set("name", name)
    tree.fields[0].lead = _header(name, known)
    walked = _walk(tree, known)
    if mismatch := compare(values, known.rules, walked):
        raise WeightsError(f"This is no {name}: {mismatch}.{_other(name, values)}")
    layers = blobs(values, known.rules, walked)
    first = known.rules[0].layers[0]
    layers = [
        (n, kind, [_folded(b[0], pixels, scale), *b[1:]] if n == first else b)
        for n, kind, b in layers
    ]
    train = dict(model_card(known.zoo)["finetune"]) | {"crop_size": known.crop_size, "mean": mean}
    return Imported(tree.render(), weights.to_net(name, layers), train)


def _named(values: State, known: Known) -> State:
    pattern, replacement = known.rename
    renamed = {re.sub(pattern, replacement, k) if pattern else k: v for k, v in values.items()}
    return {k: v for k, v in renamed.items() if not k.startswith(known.ignored or "\0")}


def _tree(known: Known, classes: int) -> Message:
    tree = parse.read_tree(MODELS / known.zoo / "train_val.prototxt")
    if known.change:
        known.change(tree)
    last = edit.layers(tree)[known.rules[-1].layers[0]]
    convolution = last.get("type") == "Convolution"
    param = last.child("convolution_param" if convolution else "inner_product_param")
    param.set("num_output", classes)
    if classes < 5:
        for layer in edit.of_type(tree, "Accuracy"):
            if any(param.get("top_k") == 5 for param in layer.messages("accuracy_param")):
                tree.fields = [f for f in tree.fields if f.message is not layer]
    return tree


def _pictures(tree: Message, crop_size: int, mean: Sequence[float], scale: float) -> None:
    for layer in edit.of_type(tree, "Data"):
        transform = layer.child("transform_param")
        transform.remove("mean_file", "scale")
        transform.set("crop_size", crop_size)
        transform.set("mean_value", *mean)
        if scale != 1:
            transform.set("scale", scale)


def _header(name: str, known: Known) -> str:
    return f"# {name}, written by `recaffe import` from the zoo's {known.zoo}: {known.about}.\n"


def _walk(tree: Message, known: Known) -> list[LayerShapes]:
    side = known.crop_size
    return walk_train(parse.to_net(tree), (3, side, side), 1)


def _folded(weight: np.ndarray, pixels: Pixels, scale: float) -> np.ndarray:
    factor = 1 / (255 * scale * np.array(pixels.std[::-1]))
    return (weight[:, ::-1] * factor[:, None, None]).astype(np.float32)


def _other(name: str, values: State) -> str:
    """Which net it is, if it is another one."""
    for other, known in KNOWN.items():
        if other == name:
            continue
        named = _named(values, known)
        head = named.get(f"{known.head}.weight")
        if head is not None and head.ndim:
            walked = _walk(_tree(known, head.shape[0]), known)
            if not compare(named, known.rules, walked):
                return f" It is {other}."
    return " Name the net that these weights were trained in."


def run(name: str, known: Known, source: Path, out: Path, pixels: Pixels, scale: float) -> str:
    """Write folder `out`: train_val.prototxt, NAME.caffemodel, and train.yaml, which is returned.

    Raises `NetError` if there is something in the folder already, else as `build` and `state.read`.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise NetError(f"{out} is there already. Name another folder with -o, or remove it.")
    try:
        made = build(known, name, state.read(source), pixels, scale)
    except WeightsError as error:
        where = "" if str(source) in str(error) else f"{source}: "
        raise WeightsError(f"{where}{error}") from error
    file = f"{name.partition(':')[2]}.caffemodel"
    train = {"net": str(out / "train_val.prototxt"), "weights": str(out / file)} | made.train
    text = _config(name, known, source, pixels, scale, train)
    with write_aside(out) as aside:
        aside.mkdir()
        (aside / "train_val.prototxt").write_text(made.train_val, encoding="utf-8")
        weights.write(made.weights, aside / file)
        (aside / "train.yaml").write_text(text, encoding="utf-8")
    return text


def _config(
    name: str, known: Known, source: Path, pixels: Pixels, scale: float, train: dict[str, object]
) -> str:
    said = {"mean": list(pixels.mean), "std": list(pixels.std)}
    return (
        f"# {name}, by `recaffe import` from {source.name} (sha256 {sha256(source)}).\n"
        f"# The net: {known.about}.\n"
        f"# Trained on RGB of 0 to 1 with mean {said['mean']} and std {said['std']}; here BGR of 0 to 255,\n"
        f"# less `mean`, times {scale} (`scale` in train_val.prototxt).\n"
        "# These keys go into the config's `train`, or into a row of `runs`.\n"
        + yaml.safe_dump({"train": train}, sort_keys=False, default_flow_style=None, width=100)
    )
