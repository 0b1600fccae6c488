"""One Datum: Caffe's record of a picture, read without copying its pixels.

Protobuf's Python classes copy `data` twice, which takes longer than the whole transformation of a
record; so the seven fields are read here, from any buffer, with every length checked.
Source: the protobuf wire format; `Datum` in caffe.proto.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from math import prod

import numpy as np

from recaffe.errors import DataError
from recaffe.proto.wire import VarintError, read_varint

UNCHANGED = -1  # OpenCV's flag for the channels that the file has
_DATA, _FLOATS, _ENCODED = 4, 6, 7
_NUMBERS = {1: "channels", 2: "height", 3: "width", 5: "label"}
_NO_DATA = memoryview(b"")
_NO_FLOATS = np.empty(0, np.float32)
_FLOAT_FIELD = np.dtype([("tag", "u1"), ("value", "<f4")])  # a float_data entry that isn't packed
_FLOAT_TAG = _FLOATS << 3 | 5


@dataclass
class Datum:
    """The fields of caffe.proto's Datum. `data` is a view of the buffer that was parsed."""

    channels: int = 0
    height: int = 0
    width: int = 0
    data: memoryview = _NO_DATA
    label: int = 0
    float_data: np.ndarray = field(default_factory=lambda: _NO_FLOATS)
    encoded: bool = False


class _BrokenError(Exception):
    pass


def parse_datum(value: bytes | memoryview, where: str = "record") -> Datum:
    """One Datum; raises `DataError` if the bytes are none. Fields of other numbers are passed over."""
    datum = Datum()
    try:
        _parse(memoryview(value), datum)
    except (_BrokenError, VarintError) as error:
        raise DataError(
            f"{where} is not a Datum: {error}. Remove the LMDB and run again."
        ) from error
    return datum


def _parse(buffer: memoryview, datum: Datum) -> None:
    at, end = 0, len(buffer)
    floats: list[np.ndarray] = []
    while at < end:
        tag = buffer[at]
        at += 1
        if tag > 0x7F:
            tag, at = read_varint(buffer, at - 1)
        number, wire = tag >> 3, tag & 7
        if not 0 < number < 1 << 29:
            raise _BrokenError(f"it has a field of the number {number}")
        if wire == 0:
            value, at = read_varint(buffer, at)
            if number in _NUMBERS:
                if value > 0x7FFFFFFF:  # int32 keeps the low 32 bits, in two's complement
                    value = (value & 0xFFFFFFFF ^ 1 << 31) - (1 << 31)
                setattr(datum, _NUMBERS[number], value)
            elif number == _ENCODED:
                datum.encoded = value != 0
            continue
        start = at
        if wire == 2:
            length, start = read_varint(buffer, at)
        elif wire in (1, 5):
            length = 8 if wire == 1 else 4
        else:
            raise _BrokenError(f"field {number} has the wire type {wire}")
        at = start + length
        if at > end:
            raise _BrokenError(f"it ends {at - end} bytes before field {number} does")
        if number == _DATA and wire == 2:
            datum.data = buffer[start:at]
        elif number == _FLOATS and wire == 5:
            at = start - 1 + _run_of_floats(buffer[start - 1 :], floats)
        elif number == _FLOATS and wire == 2:
            if length % 4:
                raise _BrokenError(f"float_data has {length} bytes, which is no multiple of 4")
            floats.append(np.frombuffer(buffer[start:at], "<f4"))
    if floats:
        datum.float_data = np.concatenate(floats).astype(np.float32, copy=False)


def _run_of_floats(buffer: memoryview, floats: list[np.ndarray]) -> int:
    """Read all float_data entries that follow each other; returns how many bytes they take."""
    entries = np.frombuffer(buffer[: len(buffer) // 5 * 5], _FLOAT_FIELD)
    other = entries["tag"] != _FLOAT_TAG
    n = int(other.argmax()) if other.any() else len(entries)
    floats.append(entries["value"][:n])
    return n * 5


def pixels(datum: Datum, flag: int = UNCHANGED) -> np.ndarray:
    """The record's pixels: uint8 (float32 for float_data), C×H×W, BGR; a view where that is possible.

    `flag` is OpenCV's, for encoded records. Raises `DataError` if the data's length doesn't fit the
    shape, or an encoded picture is broken.
    """
    if datum.encoded:
        return decode(datum.data, flag)
    shape = (datum.channels, datum.height, datum.width)
    flat = np.frombuffer(datum.data, np.uint8) if len(datum.data) else datum.float_data
    if min(shape) < 1 or flat.size != prod(shape):
        raise DataError(
            f"A record has {flat.size} values but says {shape[0]}×{shape[1]}×{shape[2]}. "
            "Remove the LMDB and run again."
        )
    return flat.reshape(shape)


def _is_whole(data: memoryview | bytes) -> bool:
    """Whether a PNG's chunks end within it: OpenCV makes room for what they say, up to 4 GiB."""
    at = 8
    if bytes(data[:at]) != b"\x89PNG\r\n\x1a\n":
        return True
    while at + 8 <= len(data):
        length = int.from_bytes(data[at : at + 4], "big")
        if at + 12 + length > len(data):
            return False
        if bytes(data[at + 4 : at + 8]) == b"IEND":
            return True
        at += 12 + length
    return False


def decode(data: memoryview | bytes, flag: int) -> np.ndarray:
    """A JPEG's or PNG's pixels: uint8, C×H×W, BGR (a view of OpenCV's H×W×C)."""
    if not _is_whole(data):
        raise DataError(
            "An encoded record can't be decoded: it is cut short. Remove the LMDB and run again."
        )
    import cv2  # here, since most LMDBs need no decoder: a mean starts in a quarter less time

    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), flag)
    except (cv2.error, MemoryError):  # nothing at all, or a size beyond OpenCV's limits
        image = None
    if image is None:
        raise DataError("An encoded record can't be decoded. Remove the LMDB and run again.")
    if image.dtype != np.uint8:
        raise DataError(
            f"An encoded record has {image.dtype} values; Caffe wants 8 bits a channel. "
            "Set force_color or force_gray, or write the LMDB anew."
        )
    return image[None] if image.ndim == 2 else image.transpose(2, 0, 1)
