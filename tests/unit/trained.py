"""What a training said and left, for tests that compare two of them."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from recaffe.engines.base import TrainJob, TrainResult
from recaffe.engines.torch.train import train
from recaffe.net import weights

CPU = torch.device("cpu")
LINE = re.compile(r"^I\d{4} \d\d:\d\d:\d\d\.\d{6} +\d+ (\w+\.cpp):\d+\] (.*)$")


def lines(text: str) -> list[str]:
    """What Caffe's log lines say; anything else is not a line."""
    return [m.group(2) for line in text.splitlines() if (m := LINE.match(line))]


def logged(job: TrainJob) -> tuple[list[str], TrainResult]:
    log = job.solver.with_name("log")
    result = train(replace(job, log=log, device="cpu"))
    return lines(log.read_text()), result


def losses(said: list[str]) -> list[float]:
    found = [re.match(r"Iteration \d+ \(.*\), loss = (\S+)$", line) for line in said]
    return [float(m.group(1)) for m in found if m]


def same(one: Path, two: Path, tolerance: float = 0.0) -> bool:
    a, b = weights.read(one), weights.read(two)
    return all(
        np.abs(x - y).max() <= tolerance * np.abs(x).max()
        for name in a
        for x, y in zip(a[name], b[name], strict=True)
    )


def final(folder: Path, **changes: object) -> Path:
    """The weights that a training in `folder` ends with; keys of TrainJob may be changed."""
    job = TrainJob(folder / "solver.prototxt", device="cpu", log=folder / "log")
    train(replace(job, **changes))  # type: ignore[arg-type]
    return folder / "snap_iter_16.caffemodel"
