"""Fashion-MNIST: 70,000 gray pictures of clothing, 28×28, ten classes, with the official split.

Xiao, Rasul and Vollgraf, "Fashion-MNIST: a novel image dataset for benchmarking machine learning
algorithms", 2017 (arXiv 1708.07747); MIT. 60,000 to train, 10,000 to test.
"""

from __future__ import annotations

import gzip
from pathlib import Path

import cv2
import numpy as np

from recaffe.errors import DataError
from recaffe.files import write_aside, write_text
from recaffe.packages import debian

PACKAGE, VERSION = "dataset-fashion-mnist", "0.0~git20200523.55506a9-1"
SHA256 = "39e172fe32dd318ebb3e512220c3beea2fa47d7e20bab348fb4e0922d6beefc0"
fetch = debian.fetch
CLASSES = (
    "t-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle-boot",
)  # fmt: skip
_FOLDER = "usr/share/datasets/fashion-mnist/"
_SETS = {"train": "train", "test": "t10k"}


def unpack(package: Path, out: Path) -> int:
    """Write the pictures as PNG to `out`/SPLIT and the table of their labels to `out`/pictures.csv.

    The table has the columns path, label and split. Returns the number of pictures; raises
    `DataError` if the package isn't laid out as known.
    """
    with debian.members(package) as files:
        found = {
            name.removeprefix(_FOLDER): data for name, data in files if name.startswith(_FOLDER)
        }
    lines = ["path,label,split"]
    with write_aside(out) as aside:
        for split, prefix in _SETS.items():
            pictures = _idx(package, found, f"{prefix}-images-idx3-ubyte.gz", 3)
            labels = _idx(package, found, f"{prefix}-labels-idx1-ubyte.gz", 1)
            if len(pictures) != len(labels) or labels.max() >= len(CLASSES):
                raise DataError(f"{package}: the labels of {split} don't belong to its pictures.")
            (aside / split).mkdir(parents=True)
            for i, (picture, label) in enumerate(zip(pictures, labels, strict=True)):
                path = f"{split}/{i:05d}.png"
                (aside / path).write_bytes(cv2.imencode(".png", picture)[1].tobytes())
                lines.append(f"{path},{CLASSES[label]},{split}")
        write_text(aside / "pictures.csv", "\n".join(lines) + "\n")
    return len(lines) - 1


def _idx(package: Path, files: dict[str, bytes], name: str, dimensions: int) -> np.ndarray:
    """An array in the IDX format of MNIST: big-endian sizes, then unsigned bytes."""
    try:
        data = gzip.decompress(files[name])
        kind = int.from_bytes(data[:4], "big")
        if kind != 0x0800 + dimensions:
            raise ValueError(f"its first number is {kind:#x}")
        shape = np.frombuffer(data, ">u4", dimensions, 4)
        values = np.frombuffer(data, np.uint8, offset=4 + 4 * dimensions)
        return values.reshape(shape)
    except KeyError as error:
        raise DataError(f"{package} holds no {_FOLDER}{name}.") from error
    except (ValueError, OSError, EOFError) as error:
        raise DataError(f"{package}: {name} isn't in the IDX format: {error}.") from error
