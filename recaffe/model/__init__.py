"""The folder that a user ships: a net, its weights, and all that turns a picture into its classes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

NOTE, CARD = "model.json", "README.md"
NET, WEIGHTS, MEAN, LABELS = (
    "deploy.prototxt",
    "weights.caffemodel",
    "mean.binaryproto",
    "labels.txt",
)
# What the net's answers follow from.
PARTS = (NET, WEIGHTS, MEAN, LABELS)
# Examples for those who have no recaffe, as they lie in shipped/.
EXAMPLES = ("preprocess.py", "classify_pycaffe.py", "classify_opencv.py")
FILES = (*PARTS, NOTE, CARD, *EXAMPLES)
# Made on request only, and from the others alone.
ONNX = "model.onnx"
# Of the config's `lmdb`: what a record follows from.
RECORD = ("width", "height", "mode", "gray", "encoded")
# The same, where it is on: what was made before it was known still stands without it.
RECORD_LATER = ("fast",)
# Raised when a reader of the number before would misread the folder.
FORMAT = 1


def record_settings(lmdb: Mapping[str, Any]) -> dict[str, Any]:
    """What a record follows from, of the config's `lmdb`."""
    return {k: lmdb[k] for k in RECORD} | {k: lmdb[k] for k in RECORD_LATER if lmdb.get(k)}
