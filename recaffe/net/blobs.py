"""BlobProto ↔ NumPy, in one copy: a VGG-16 has 138 million values."""

from __future__ import annotations

import numpy as np

from recaffe.errors import WeightsError
from recaffe.proto import caffe_pb2 as pb
from recaffe.proto.wire import to_varint

Weights = dict[str, list[np.ndarray]]  # layer name → its blobs

_DATA = (pb.BlobProto.DATA_FIELD_NUMBER << 3) | 2  # the wire's tag of packed `data`


def from_blob(blob: pb.BlobProto, where: str) -> np.ndarray:
    """A BlobProto as float32, in the file's shape; the legacy form has four dimensions.

    Raises `WeightsError` if values and shape don't agree. Source: `Blob::FromProto`, where the
    legacy form wins over `shape`, and doubles over floats.
    """
    data = np.array(blob.double_data if blob.double_data else blob.data, np.float32)
    if any(blob.HasField(f) for f in ("num", "channels", "height", "width")):
        shape: tuple[int, ...] = (blob.num, blob.channels, blob.height, blob.width)
    else:
        shape = tuple(blob.shape.dim)
    # Python's integers: a broken file's dimensions may multiply to more than 64 bits.
    count = 1
    for dim in shape:
        count *= dim
    if min(shape, default=0) < 0 or data.size != count:
        raise WeightsError(
            f"{where}: {data.size} values for the shape {shape}; the file is broken. Fetch it again."
        )
    return data.reshape(shape)


def to_blob(array: np.ndarray) -> pb.BlobProto:
    """A float32 array as a BlobProto with `shape`."""
    blob = pb.BlobProto()
    blob.shape.dim.extend(array.shape)
    data = np.ascontiguousarray(array, "<f4").tobytes()
    if data:  # `data.extend` takes 200 times as long
        blob.MergeFromString(bytes((_DATA,)) + to_varint(len(data)) + data)
    return blob
