"""Which compute capabilities a program or library has machine code for, and which PTX.

    archs.py sass|ptx FILE…

prints those that every fat binary of the files has, such as "7.5 9.0". nvcc puts one fat binary for
each .cu file into the section .nv_fatbin: a header, and an entry for each -gencode.
"""

import re
import struct
import sys
from pathlib import Path

MAGIC = struct.pack("<IHH", 0xBA55ED50, 1, 16)
KINDS = {"ptx": 1, "sass": 2}


def entries(data: bytes, start: int) -> set[tuple[int, int]]:
    """(kind, 90 for 9.0) of each entry in the fat binary at `start`."""
    (size,) = struct.unpack_from("<Q", data, start + 8)
    at, end = start + 16, start + 16 + size
    found = set()
    while at < end:
        kind, header, length = struct.unpack_from("<H2xIQ", data, at)
        (arch,) = struct.unpack_from("<I", data, at + 28)
        found.add((kind, arch))
        at += header + length
    return found


def archs(files: list[Path], kind: int) -> set[int]:
    common: set[int] | None = None
    for file in files:
        data = file.read_bytes()
        for match in re.finditer(re.escape(MAGIC), data):
            here = {arch for k, arch in entries(data, match.start()) if k == kind}
            common = here if common is None else common & here
    return common or set()


if __name__ == "__main__":
    found = archs([Path(name) for name in sys.argv[2:]], KINDS[sys.argv[1]])
    print(" ".join(f"{arch // 10}.{arch % 10}" for arch in sorted(found)))
