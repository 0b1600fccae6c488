"""Log lines in the form that Caffe's (glog) have, so that scripts made for them go on working."""

from __future__ import annotations

import os
import sys
import time


def stamp(source: str) -> str:
    """`I1125 13:39:22.381027  4711 solver.cpp:1] `: what stands before each line's text."""
    now = time.time()
    date = time.strftime("%m%d %H:%M:%S", time.localtime(now))
    return f"I{date}.{int(now % 1 * 1e6):06d} {os.getpid():5d} {source}:1] "


def say(text: str, source: str = "caffe.cpp") -> None:
    """A line on stderr, where Caffe's own go; `source` is the file of Caffe that says it."""
    print(stamp(source) + text, file=sys.stderr, flush=True)


def number(value: float) -> str:
    """A float as C++ streams print it: six digits."""
    return f"{value:.6g}"
