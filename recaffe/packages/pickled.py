"""Weights that a package ships as a pickled dict of arrays → caffemodel.

The pickle is read by an unpickler that knows how to rebuild plain numeric numpy arrays and
nothing else, so a hostile file can't run code.
"""

from __future__ import annotations

import io
import pickle
import pickletools
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from recaffe.errors import WeightsError
from recaffe.net import weights
from recaffe.net.shapes import LayerShapes


class ArraysOnly(pickle.Unpickler):
    """Admits numpy arrays of numbers and the built-in containers; all else raises."""

    def find_class(self, module: str, name: str) -> Any:
        """The three callables that an array's pickle names."""
        if module in ("numpy.core.multiarray", "numpy._core.multiarray") and name == "_reconstruct":
            return _reconstruct
        if module == "numpy" and name in ("ndarray", "dtype"):
            return np.ndarray if name == "ndarray" else _number_type
        raise pickle.UnpicklingError(f"{module}.{name} is not admitted")

    def persistent_load(self, pid: Any) -> Any:
        """References to outside objects are never followed."""
        raise pickle.UnpicklingError("persistent ids are not admitted")


def _reconstruct(kind: type, shape: Sequence[int], code: bytes) -> np.ndarray:
    if kind is not np.ndarray or tuple(shape) != (0,):
        raise pickle.UnpicklingError("only plain arrays are admitted")
    return np.ndarray.__new__(np.ndarray, (0,), "b")


def _check_memo(data: bytes) -> None:
    """Pickle's own reader makes room for whatever number an object is to be remembered under."""
    numbers = 0
    for op, number, _ in pickletools.genops(data):
        if "PUT" in op.name:
            numbers += 1
            if int(number or 0) > 2 * numbers:
                raise pickle.UnpicklingError("its objects are numbered with gaps")


def _number_type(code: str, *rest: Any) -> np.dtype:
    kind = np.dtype(code)
    if kind.kind not in "fiub":
        raise pickle.UnpicklingError(f"arrays of {kind} are not admitted")
    return kind


def load(data: bytes) -> dict[str, list[np.ndarray]]:
    """The dict of arrays in a pickle; raises `WeightsError` for anything else in it."""
    try:
        _check_memo(data)
        # The dict was pickled by Python 2 or 3; bytes-like strings decode as latin-1.
        value = ArraysOnly(io.BytesIO(data), encoding="latin-1").load()
    except Exception as error:
        raise WeightsError(f"The package's weights can't be read safely: {error}.") from error
    if not isinstance(value, dict) or not all(
        isinstance(v, (list, tuple)) and all(isinstance(a, np.ndarray) for a in v)
        for v in value.values()
    ):
        raise WeightsError("The package's weights are not a dict of lists of arrays.")
    return {str(k): list(v) for k, v in value.items()}


def convert(
    archive: Path, member: str, layout: str, net: Sequence[LayerShapes], name: str, out: Path
) -> None:
    """Write the arrays of a tar's member as a caffemodel for `net`.

    `layout` is the convolution kernels' axes: HWIO is turned to Caffe's O×I×H×W. Raises
    `WeightsError` if a layer of the net is missing or has another shape.
    """
    with tarfile.open(archive) as tar:
        file = tar.extractfile(member)
        if file is None:
            raise WeightsError(f"{archive} holds no file {member}.")
        arrays = load(file.read())
    weights.write(weights.to_net(name, _blobs(arrays, layout, net)), out)


def _blobs(
    arrays: Mapping[str, list[np.ndarray]], layout: str, net: Sequence[LayerShapes]
) -> list[tuple[str, str, list[np.ndarray]]]:
    layers = []
    for shaped in net:
        if not shaped.params:
            continue
        name = shaped.layer.name
        if name not in arrays:
            raise WeightsError(f"The package has no weights for layer {name!r}.")
        blobs = [
            a.transpose(3, 2, 0, 1) if a.ndim == 4 and layout == "HWIO" else a for a in arrays[name]
        ]
        shapes = [shape for shape, _ in shaped.params]
        blobs = [
            b.reshape(s) if b.size == np.prod(s) and b.ndim != 4 else b
            for b, s in zip(blobs, shapes, strict=True)
        ]
        if [b.shape for b in blobs] != shapes:
            raise WeightsError(
                f"Layer {name!r}: the package has {[b.shape for b in blobs]}, the net {shapes}."
            )
        layers.append((name, shaped.layer.type, blobs))
    return layers
