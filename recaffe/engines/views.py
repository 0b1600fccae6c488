"""The ten views of a record that are tested: four corners and the centre, as they are and mirrored.

Source: A. Krizhevsky et al., ImageNet Classification with Deep Convolutional Neural Networks (2012), in the
order of `caffe.io.oversample`: corners from top left to bottom right, the centre, then all mirrored.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from recaffe.errors import NetError

if TYPE_CHECKING:
    import numpy as np

COUNT = 10


def of(crops: int) -> Sequence[int | None]:
    """The views that so many crops are: the centre alone is None, Caffe's own way."""
    return range(COUNT) if crops == COUNT else (None,)


def mean(scores: Sequence[np.ndarray]) -> np.ndarray:
    """The mean over views, float32 N×K of each; of one view its own bits."""
    import numpy as np  # here, since the config asks this module as well, and `recaffe --help` the config

    return scores[0] if len(scores) == 1 else np.array(np.mean(scores, 0, np.float64), np.float32)


def check(crops: int, crop_size: int, record: tuple[int, int]) -> None:
    """Raises `NetError` where records (height, width) leave no room for several crops."""
    if crops > 1 and (not crop_size or record == (crop_size, crop_size)):
        height, width = record
        raise NetError(
            f"test_crops is {crops}, but {'crop_size is 0' if not crop_size else 'records have the size of the crop'}"
            f" ({width}×{height}), so all of them would show the same. Set lmdb.width and lmdb.height larger "
            "than crop_size (256 is usual), or test_crops: 1."
        )


def place(view: int, rest: tuple[int, int]) -> tuple[int, int, int]:
    """(top, left, mirrored) of a view's crop, where `rest` pixels of height and width lie outside it."""
    down, across = rest
    corners = [(0, 0), (0, across), (down, 0), (down, across), (down // 2, across // 2)]
    return (*corners[view % 5], view // 5)
