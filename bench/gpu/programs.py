"""The programs that are measured, each training in a process of its own."""

from __future__ import annotations

import json
import statistics
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.gpu.files import Files
from bench.gpu.ours import PEAK
from bench.measure import said
from recaffe.config import ROOT
from recaffe.engines.base import Step
from recaffe.engines.caffe.find import Caffe
from recaffe.engines.caffe.log import Parser

# What recaffe says where it goes on without the compiler.
UNCOMPILED = "compile: torch.compile can't"


@dataclass(frozen=True)
class Setting:
    """How PyTorch computes: the config keys of the same names."""

    precision: str = "fp32"
    channels_last: bool = False
    compile: bool = False

    def __str__(self) -> str:
        words = [self.precision, "channels last" if self.channels_last else "channels first"]
        return ", ".join([*words, "compiled"] if self.compile else words)


@dataclass(frozen=True)
class Cost:
    """Median seconds of a step, and the most MiB that it took."""

    seconds: float
    peak: float


class Programs:
    """Runs them on one device: cuda, cuda:1 or cpu.

    Raises `RuntimeError` with what a program said where it fails.
    """

    def __init__(self, device: str, caffe: Caffe | None) -> None:
        self.device, self.caffe = device, caffe
        number = device.partition(":")[2] or "0"
        self._gpu = [] if device == "cpu" else [f"--gpu={number}"]

    def ours(self, files: Files, source: str, setting: Setting) -> Cost:
        """`recaffe train` on `lmdb` or `synthetic`."""
        text = self._recaffe(
            files.solver(source), f"--precision={setting.precision}",
            f"--channels_last={str(setting.channels_last).lower()}",
            *(["--compile"] if setting.compile else []),
            *([f"--weights={files.noise}"] if source == "synthetic" else []),
        )  # fmt: skip
        if UNCOMPILED in text:
            line = next(line for line in text.splitlines() if UNCOMPILED in line)
            raise RuntimeError(f"recaffe ran uncompiled. {line}")
        peak = next(line for line in text.splitlines() if line.startswith(PEAK))
        return Cost(step_of(text, files), float(peak.removeprefix(PEAK)))

    def plain(self, files: Files, source: str, setting: Setting) -> Cost:
        """The loop by hand with the same settings."""
        found = _json(
            "bench.gpu.loop", files.name, str(files.batch), f"--device={self.device}",
            f"--precision={setting.precision}", f"--steps={files.length.steps}",
            f"--intervals={files.length.intervals}",
            *(["--channels-last"] if setting.channels_last else []),
            *(["--compile"] if setting.compile else []),
            *([f"--lmdb={files.records}"] if source == "lmdb" else []),
        )  # fmt: skip
        return Cost(statistics.median(found["seconds"]), found["peak"])

    def feed(self, files: Files) -> float:
        """Median seconds of a batch of the data layer alone."""
        numbers = [str(files.length.steps), str(files.length.intervals)]
        net = files.folder / "lmdb.prototxt"
        return statistics.median(_json("bench.gpu.feed", net, self.device, *numbers))

    def theirs(self, files: Files) -> float:
        """Median seconds of a step of `caffe train` on `lmdb`."""
        return step_of(self._caffe("--solver", files.solver("lmdb")), files)

    def apart(self, files: Files) -> float:
        """The largest relative difference of the first losses of recaffe and Caffe from the same weights."""
        files.for_comparison()
        self._recaffe(files.solver("start"))
        flags = [f"--weights={files.start}"]
        mine = steps_of(self._recaffe(files.solver("fixed"), *flags))
        caffes = steps_of(self._caffe("--solver", files.solver("fixed"), *flags))
        return max(abs(a.loss / b.loss - 1) for a, b in zip(mine, caffes, strict=True))

    def _recaffe(self, solver: Path, *flags: str) -> str:
        command = [sys.executable, "-m", "bench.gpu.ours", self.device, f"--solver={solver}"]
        return said([*command, *flags, *self._gpu], cwd=ROOT)

    def _caffe(self, *flags: str | Path) -> str:
        assert self.caffe is not None
        return said([self.caffe.program, "train", *flags, *self._gpu], {"GLOG_logtostderr": "1"})


def _json(module: str, *args: str | Path) -> Any:
    """What a module of this folder prints as its last line of JSON, among warnings."""
    text = said([sys.executable, "-m", module, *args], cwd=ROOT)
    return json.loads(next(x for x in reversed(text.splitlines()) if x.startswith(("{", "["))))


def steps_of(text: str) -> list[Step]:
    """The lines of a log, Caffe's or recaffe's, that tell a loss."""
    parser = Parser(0, 1)
    lines = [*text.splitlines(), ""]
    events = [event for line in lines for event in parser.feed(line)]
    return [event for event in events if isinstance(event, Step)]


def step_of(text: str, files: Files) -> float:
    """Median seconds of a step between two lines of a log, from its third line on.

    A program reads the loss for a line, which waits for the card.
    """
    found = [step.lapse / step.steps for step in steps_of(text)]
    if len(found) != files.length.intervals + 2:
        raise RuntimeError(f"{files.name}: other lines in the log than expected: {text[-1000:]}")
    return statistics.median(found[2:])
