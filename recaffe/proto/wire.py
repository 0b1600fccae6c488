"""Varints, the numbers of protobuf's wire format, for what reads or writes messages by hand."""

from __future__ import annotations


class VarintError(Exception):
    """Bytes that are no varint; `cut` if they may be the beginning of one."""

    def __init__(self, cut: bool) -> None:
        super().__init__("a number in it doesn't end")
        self.cut = cut


def read_varint(buffer: bytes | memoryview, at: int) -> tuple[int, int]:
    """(value of 64 bits, position after it); raises `VarintError`."""
    if at < len(buffer) and buffer[at] < 0x80:
        return buffer[at], at + 1
    value = shift = 0
    for i in range(at, min(at + 10, len(buffer))):
        byte = buffer[i]
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value & 0xFFFFFFFFFFFFFFFF, i + 1
        shift += 7
    raise VarintError(cut=len(buffer) < at + 10)


def to_varint(value: int) -> bytes:
    """A number that isn't negative."""
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes((*out, value))
