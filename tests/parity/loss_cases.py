"""Random nets around each loss and measure."""

from __future__ import annotations

import atexit
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

from recaffe.files import write_bytes
from recaffe.net.blobs import to_blob
from tests.parity.draw import Case, Draw, layer

IGNORED = 255
_FOLDER = Path(tempfile.mkdtemp(prefix="recaffe-parity-"))
atexit.register(shutil.rmtree, _FOLDER, ignore_errors=True)


def _normalization(d: Draw, deprecated: bool = True) -> str:
    forms = ["", *(f"normalization: {m}" for m in ("VALID", "FULL", "BATCH_SIZE", "NONE"))]
    return d.of(*forms, *(("normalize: true", "normalize: false") if deprecated else ()))


def _scores(d: Draw) -> tuple[tuple[int, ...], int, tuple[int, ...]]:
    """Shape of scores, axis of the classes, shape of their labels in one of its forms."""
    shape = (d.int(1, 6), d.int(2, 6), *d.shape(*[4] * d.int(0, 2)))
    axis = d.int(1, len(shape) - 1)
    labels = (*shape[:axis], *shape[axis + 1 :])
    return (
        shape,
        d.of(axis, axis - len(shape)),
        d.of(labels, (*shape[:axis], 1, *shape[axis + 1 :])),
    )


def _ignore(d: Draw, labels: np.ndarray) -> str:
    """Some labels become the ignored one, and the setting for it."""
    if d.bool():
        return ""
    labels[d.rng.random(labels.shape) < d.of(0.3, 1.0)] = IGNORED
    return f"ignore_label: {IGNORED}"


def softmax(d: Draw) -> Case:
    shape = d.any_shape()
    axis = d.of(*range(-len(shape), len(shape)))
    scores = d.either(shape) * d.of(1, 30)
    # One vector without a clear winner: gradients of certain ones are differences of last digits.
    first = (0,) * (len(shape) - 1)
    np.moveaxis(scores, axis, -1)[first] = d.normal((shape[axis],)) / 2
    return Case(layer("Softmax", f"softmax_param {{ axis: {axis} }}"), {"x": scores})


def softmax_loss(d: Draw) -> Case:
    shape, axis, label_shape = _scores(d)
    scores, labels = d.either(shape), d.labels(label_shape, shape[axis])
    if d.bool():  # hopeless: probabilities that are 0 in float32, where the loss has its ceiling
        worst = scores.argmin(axis)
        scores *= 100
        labels = worst.reshape(label_shape).astype(np.float32)
    ignore = _ignore(d, labels)
    settings = f"softmax_param {{ axis: {axis} }} loss_param {{ {ignore} {_normalization(d)} }} "
    # Caffe 1.0 stops at a second top (the probabilities), whatever loss_weight says of it.
    settings += f"loss_weight: {d.of(1, 0.3)}"
    return Case(layer("SoftmaxWithLoss", settings, ["x", "label"]), {"x": scores, "label": labels})


def infogain_loss(d: Draw) -> Case:
    shape, axis, label_shape = _scores(d)
    classes = shape[axis]
    matrix, labels = d.positive((classes, classes)), d.labels(label_shape, classes)
    ignore = _ignore(d, labels)
    wanted = f"loss_param {{ {ignore} {_normalization(d, deprecated=False)} }}"
    blobs = {"x": d.normal(shape), "label": labels}
    if d.bool():
        before = layer("Scale", "", ["x"], ["s"], "before")
        settings = f"infogain_loss_param {{ axis: {axis} }} {wanted}"
        made = before + layer("InfogainLoss", settings, ["s", "label", "matrix"])
        blobs["matrix"] = matrix.reshape(1, 1, classes, classes)
        return Case(made, blobs, gradients=("s",), force_backward=False)
    path = _FOLDER / f"{abs(hash(matrix.tobytes()))}.binaryproto"
    write_bytes(path, to_blob(matrix.reshape(1, 1, classes, classes)).SerializeToString())
    settings = f'infogain_loss_param {{ axis: {axis} source: "{path}" }} {wanted}'
    return Case(layer("InfogainLoss", settings, ["x", "label"]), blobs)


def sigmoid_loss(d: Draw) -> Case:
    shape = d.any_shape()
    targets = d.rng.random(shape).astype(np.float32) if d.bool() else d.labels(shape, 2)
    settings = f"loss_param {{ {_ignore(d, targets)} {_normalization(d)} }}"
    scores = d.either(shape) * d.of(1, 20)
    # One value that is wrong: where all are right, Caffe's log(1 + e) in float32 has no digit left.
    first = (0,) * len(shape)
    targets[first] = scores[first] < 0
    return Case(
        layer("SigmoidCrossEntropyLoss", settings, ["x", "label"]), {"x": scores, "label": targets}
    )


def hinge_loss(d: Draw) -> Case:
    shape = (d.int(1, 6), *d.shape(*[5] * d.int(1, 3)))
    classes = int(np.prod(shape[1:]))
    settings = d.of("", "hinge_loss_param { norm: L2 }", "hinge_loss_param { norm: L1 }")
    return Case(
        layer("HingeLoss", settings, ["x", "label"]),
        {"x": d.either(shape), "label": d.labels(d.of((shape[0],), (shape[0], 1)), classes)},
    )


def euclidean_loss(d: Draw) -> Case:
    shape = d.any_shape()
    blobs = {"x": d.normal(shape), "target": d.normal(shape)}
    return Case(layer("EuclideanLoss", "", ["x", "target"]), blobs, gradients=("x", "target"))


def multinomial_loss(d: Draw) -> Case:
    shape = (d.int(1, 6), *d.shape(*[5] * d.int(1, 3)))
    labels = d.labels((shape[0],), int(np.prod(shape[1:])))
    prob = d.rng.random(shape).astype(np.float32)
    if d.bool():
        prob.reshape(shape[0], -1)[0, int(labels[0])] = 0
    return Case(layer("MultinomialLogisticLoss", "", ["x", "label"]), {"x": prob, "label": labels})


def contrastive_loss(d: Draw) -> Case:
    shape = (d.int(1, 6), d.int(1, 5), *d.of((), (1, 1)))
    a, b = d.either(shape), d.either(shape)
    if d.bool():
        b[0] = a[0]  # no distance at all
    settings = d.some(margin=d.of(0.5, 3.0), legacy_version=True)
    return Case(
        layer("ContrastiveLoss", f"contrastive_loss_param {{ {settings} }}", ["x", "x2", "same"]),
        {"x": a, "x2": b, "same": d.labels((shape[0],), 2)},
        gradients=("x", "x2"),
    )


def accuracy(d: Draw) -> Case:
    shape, axis, label_shape = _scores(d)
    labels = d.labels(label_shape, shape[axis])
    said = _ignore(d, labels)
    settings = f"accuracy_param {{ axis: {axis} top_k: {d.int(1, shape[axis])} {said} }}"
    made = layer("Accuracy", settings, ["x", "label"], ["y", "by_class"][: d.int(1, 2)])
    return Case(made, {"x": d.either(shape), "label": labels}, backward=False)


LOSS_CASES: dict[str, Callable[[Draw], Case]] = {
    "Accuracy": accuracy,
    "ContrastiveLoss": contrastive_loss,
    "EuclideanLoss": euclidean_loss,
    "HingeLoss": hinge_loss,
    "InfogainLoss": infogain_loss,
    "MultinomialLogisticLoss": multinomial_loss,
    "SigmoidCrossEntropyLoss": sigmoid_loss,
    "Softmax": softmax,
    "SoftmaxWithLoss": softmax_loss,
}
