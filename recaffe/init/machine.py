"""What this machine can train with, as far as a config's choices follow from it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from recaffe.engines import preflight
from recaffe.engines.caffe import find
from recaffe.engines.cards import Build
from recaffe.engines.preflight import Card
from recaffe.errors import MachineError
from recaffe.files import free_space


@dataclass(frozen=True)
class Machine:
    """Cores; the first GPU's name and GB, "" and 0 without; which engines are here and use it.

    `disk` is what is free where results go, in bytes.
    """

    cores: int
    gpu: str = ""
    gigabytes: float = 0.0
    caffe: bool = False
    caffe_on_gpu: bool = False
    torch_on_gpu: bool = False
    disk: int = 2**60

    @property
    def engine(self) -> str:
        """Real Caffe where it is here, but not on the CPU while the other engine has a GPU."""
        return "caffe" if self.caffe and (self.caffe_on_gpu or not self.torch_on_gpu) else "torch"

    @property
    def on_gpu(self) -> bool:
        """Whether that engine trains on a GPU."""
        return self.caffe_on_gpu if self.engine == "caffe" else self.torch_on_gpu


def look(results: Path) -> Machine:
    """This machine. `results` is where the workflow writes; it needn't be there."""
    cores, disk = len(os.sched_getaffinity(0)), free_space(results)
    try:
        there = preflight.visible(preflight.found())
        sizes = preflight.gigabytes() if there else {}
    except MachineError:
        there, sizes = [], {}
    try:
        caffe = find.find()
        caffe_on_gpu = caffe.cuda and _runs(preflight.caffe_build(caffe.program.parents[1]), there)
        has_caffe = True
    except MachineError:
        caffe_on_gpu = has_caffe = False
    if not there:
        return Machine(cores, caffe=has_caffe, disk=disk)
    build = (
        preflight.torch_build()
    )  # imports PyTorch, which only a machine with a GPU has to wait for
    torch_on_gpu = build is not None and _runs(build, there)
    first = there[0]
    return Machine(
        cores, first.name, sizes.get(first.index, 0.0), has_caffe, caffe_on_gpu, torch_on_gpu, disk
    )


def _runs(build: Build | None, there: Sequence[Card]) -> bool:
    """A build that doesn't say what it is for counts as one for these cards."""
    return bool(there) and (build is None or preflight.problem(there[0], build) is None)
