"""python -m bench.gpu.ours DEVICE FLAG …: `recaffe train FLAG …`, and a last line on the memory it took."""

from __future__ import annotations

import sys

from bench.gpu.card import peak
from recaffe import cli

PEAK = "peak memory, MiB:"


def main() -> int:
    """Returns what `recaffe train` returns."""
    device, *flags = sys.argv[1:]
    status = cli.main(["train", *flags])
    if status == 0:
        print(PEAK, f"{peak(device):.1f}")
    return status


if __name__ == "__main__":
    sys.exit(main())
