"""The last weights' test, by `caffe test`: in training, Caffe tests them only where test_interval falls on
max_iter."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from pathlib import Path

from recaffe.engines.base import Output, Test
from recaffe.engines.caffe.find import Caffe
from recaffe.engines.caffe.rewrite import Rewritten

_MEAN = re.compile(r"I\S+ \S+ +\d+ caffe\.cpp:\d+\] ([^ ]+) = (\S+)(?: \(\* (\S+) = \S+ loss\))?")


def command(caffe: Caffe, files: Rewritten, weights: Path, gpus: Sequence[int]) -> list[str]:
    """`caffe test` of the first test net on all of its records."""
    state = files.plan.test_state[0] if files.plan.test_state else None
    return [
        str(caffe.program), "test", f"-model={files.net_file}", f"-weights={weights}",
        f"-iterations={files.plan.test_iter[0]}",
        *([f"-gpu={gpus[0]}"] if gpus else []),
        *([f"-level={state.level}", f"-stage={','.join(state.stage)}"] if state else []),
    ]  # fmt: skip


def outputs(lines: Sequence[str]) -> tuple[Output, ...]:
    """The means at the end of its log."""
    found = [_MEAN.fullmatch(line) for line in lines if "] Batch " not in line]
    return tuple(Output(m[1], float(m[2]), float(m[3] or 0)) for m in found if m)


def event(iteration: int, values: Sequence[Output], judges: tuple[str, str]) -> Test:
    """The test as training would have reported it."""
    by_name = {o.name: o.value for o in reversed(values)}
    accuracy, loss = (by_name.get(name, math.nan) for name in judges)
    return Test(iteration, tuple(values), accuracy, loss)
