"""A short fuzz run that is the same each time: seeds, and mutations drawn from a fixed seed.

    python -m tests.fuzz.corpus [MUTATIONS]

Needs no fuzzer. It lives in a process of its own, with a limit on memory, so that a crash in a C
library is the process's end and no more; the last line on stderr then names the input.
"""

from __future__ import annotations

import os
import random
import resource
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from tests.fuzz import targets
from tests.fuzz.seeds import seeds

MUTATIONS = 300  # of each target
SLOW = {"config": 20, "net": 120, "upgrade": 150}  # these take ten times as long for each
SECONDS, HANG, ADDRESS_SPACE = 5, 60, 4 << 30  # of work for an input; of waiting
RESIDENT = 512  # MiB: libraries and seeds take 160, and no input may add much
_ODD = (b"\0" * 8, b"\xff" * 8, b"\x80" * 10, b"\xff\xff\xff\x7f", b"{" * 40, b"\n", b'"', b"../")


def mutations(whole: list[bytes], count: int, rng: random.Random) -> Iterator[bytes]:
    """Inputs near the seeds: bytes changed, cut, doubled, swapped between seeds."""
    for _ in range(count):
        data = bytearray(rng.choice(whole))
        for _ in range(rng.choice((1, 1, 1, 2, 4, 16))):
            at = rng.randrange(len(data) + 1)
            kind = rng.randrange(6)
            if kind == 0 and at < len(data):
                data[at] ^= 1 << rng.randrange(8)
            elif kind == 1 and at < len(data):
                data[at] = rng.randrange(256)
            elif kind == 2:
                data[at : at + rng.randrange(1, 9)] = rng.choice(_ODD)
            elif kind == 3:
                del data[at : at + rng.choice((1, 4, len(data)))]
            elif kind == 4:
                data[at:at] = data[at : at + rng.randrange(1, 200)]
            else:
                other = rng.choice(whole)
                start = rng.randrange(len(other) + 1)
                data[at : at + 20] = other[start : start + rng.randrange(100)]
        yield bytes(data)


def resident() -> int:
    """The most MiB that this process had in memory. (What getrusage says counts its starter's, too.)"""
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return int(status.partition("VmHWM:")[2].split()[0]) >> 10


def main() -> int:
    """0, or 1 with the first find on stderr."""
    factor = int(sys.argv[1]) / MUTATIONS if len(sys.argv) > 1 else 1
    resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_SPACE, ADDRESS_SPACE))
    runs = taken = peak = 0
    for name, whole in seeds().items():
        rng = random.Random(name)
        inputs = [*whole, *mutations(whole, int(SLOW.get(name, MUTATIONS) * factor), rng)]
        for number, data in enumerate(inputs):
            os.write(2, f"{name} {number}\n".encode())
            signal.alarm(HANG)  # ends the process, whatever a C library is doing
            began = time.process_time()
            good = targets.run(name, data)
            signal.alarm(0)
            runs, taken = runs + 1, taken + good
            assert time.process_time() - began < SECONDS, "too slow"
            peak = resident()
            assert peak < RESIDENT, f"{peak} MiB"
    print(f"{runs} inputs, {taken} taken, {runs - taken} refused, {peak} MiB at most")
    return 0


if __name__ == "__main__":
    sys.exit(main())
