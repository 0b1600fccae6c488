"""Where real Caffe is, and what it can do."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from recaffe.config import ROOT
from recaffe.engines import preflight
from recaffe.errors import MachineError

# Of an installed Caffe, and of a source tree that was built where it lies.
_PROGRAMS = ("bin/caffe", "build/tools/caffe")
_OTHER_WAY = "Or train with the built-in engine: in the config, under `train`, set `engine: torch`."
WAYS = (
    "There are three ways to get it: `make caffe` builds it in this clone (on Debian 12); the images "
    "have it (`snakemake --use-singularity`, or `train.runtime: docker`; docs/containers.md); and "
    f"CAFFE_HOME=/path/to/caffe names your own build, with bin/caffe or build/tools/caffe. {_OTHER_WAY}"
)


@dataclass(frozen=True)
class Caffe:
    """A Caffe with its program; `python` is the folder of its pycaffe, None if only Python knows it.

    `cuda` and `nccl` say what it was built with: for GPUs, and for several at once.
    """

    program: Path
    python: Path | None
    cuda: bool
    nccl: bool


def find() -> Caffe:
    """$CAFFE_HOME, else what `make caffe` built in this clone, else `caffe` on PATH.

    Raises `MachineError` with the ways to get it, or with what is wrong with CAFFE_HOME.
    """
    if named := os.environ.get("CAFFE_HOME"):
        found = _at(Path(named))
        if found is None:
            raise MachineError(
                f"CAFFE_HOME is {named}, but there is neither {' nor '.join(_PROGRAMS)} in it. Correct "
                f"it, or unset it to look elsewhere. {_OTHER_WAY}"
            )
        return found
    for home in _homes():
        if found := _at(home):
            return found
    if program := shutil.which("caffe"):
        # Through links, so that pycaffe is found beside the program itself.
        path = Path(program).resolve()
        return _caffe(path, path.parents[1])
    raise MachineError(f"engine is caffe, but there is no Caffe on this machine. {WAYS}")


def interpreter() -> str:
    """The Python that pycaffe is built for: $CAFFE_PYTHON, else Debian's own."""
    candidates = (os.environ.get("CAFFE_PYTHON"), "/usr/bin/python3.11", "python3")
    found = next(filter(None, (shutil.which(c) for c in candidates if c)), None)
    if found is None:
        raise MachineError("pycaffe wants a Python of its own. Name it in CAFFE_PYTHON.")
    return found


@cache
def gpus() -> tuple[str, ...]:
    """The names of this machine's GPUs, as nvidia-smi lists them; none where it can't."""
    try:
        return tuple(card.name for card in preflight.found())
    except MachineError:
        return ()


def _homes() -> Iterator[Path]:
    plain, cuda = ROOT / ".caffe" / "install", ROOT / ".caffe" / "install-cuda"
    yield from (cuda, plain) if gpus() else (plain, cuda)


def _at(home: Path) -> Caffe | None:
    home = home.absolute()
    program = next((home / p for p in _PROGRAMS if os.access(home / p, os.X_OK)), None)
    return None if program is None else _caffe(program, home)


def _caffe(program: Path, home: Path) -> Caffe:
    # The names of the libraries that it is linked to stand in the program or in its own library.
    places = [program, *(home / lib / "libcaffe.so" for lib in ("lib", "build/lib", "lib64"))]
    parts = [p.read_bytes() for p in places if p.is_file()]
    python = home / "python"
    return Caffe(
        program,
        python if (python / "caffe").is_dir() else None,
        any(b"libcublas.so" in part for part in parts),
        any(b"libnccl.so" in part for part in parts),
    )
