"""GPUs, and both engines: whether they start, and whether they run on those."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from recaffe.doctor.bounded import ask
from recaffe.doctor.result import About, Finding
from recaffe.engines import preflight
from recaffe.engines.caffe import find, run
from recaffe.engines.cards import Build, dotted
from recaffe.engines.preflight import Card
from recaffe.errors import MachineError

_IMPORT = 30.0  # seconds; pycaffe's Python reads a hundred libraries


def gpus(about: About) -> Iterator[Finding]:
    """GPU, engine torch, engine torch on the GPU."""
    try:
        there = preflight.visible(preflight.found())
    except MachineError as error:
        there = []
        absent = any(words in str(error) for words in ("no nvidia-smi", "finds no card"))
        said = f"{error} Trainings run on the CPU."
        yield Finding("GPU", "missing" if absent else "problem", said)
    else:
        if there:
            yield Finding("GPU", "ok", "; ".join(map(_named, there)))
        else:
            yield Finding("GPU", "missing", "CUDA_VISIBLE_DEVICES hides all.", "Unset it.")
    try:
        import torch
    except Exception as error:  # a library of its that is missing is an OSError
        todo = "Run `make setup`."
        yield Finding("engine: torch", "missing", f"PyTorch can't be imported: {error}", todo)
        return
    yield Finding("engine: torch", "ok", f"the built-in engine, on PyTorch {torch.__version__}")
    if there:
        build = preflight.torch_build()
        if build is None:
            yield Finding("torch on the GPU", "missing", preflight.why_torch_sees_none())
        elif (
            finding := _runs("torch on the GPU", build, there)
        ).ok and not torch.cuda.is_available():
            yield Finding("torch on the GPU", "problem", preflight.why_torch_sees_none())
        else:
            yield finding


def caffe(about: About) -> Iterator[Finding]:
    """engine caffe, pycaffe, Caffe on the GPU."""
    try:
        here = find.find()
    except MachineError as error:
        yield Finding("engine: caffe", "missing", str(error))
        return
    try:
        said = ask(str(here.program), "--version", env=run.environment(here, 1, quiet=True))
        version = (said.splitlines() or ["of unknown version"])[0]
        yield Finding("engine: caffe", "ok", f"{version}, {here.program}")
    except MachineError as error:
        todo = "Build it again (make caffe), or set CAFFE_HOME to one that starts."
        yield Finding("engine: caffe", "problem", f"It doesn't start: {error}", todo)
    yield _pycaffe(here)
    if here.cuda and find.gpus():
        there = preflight.visible(preflight.found())
        build = preflight.caffe_build(here.program.parents[1])
        if build is None:
            said = "built for GPUs, but doesn't say for which: a test shows it"
            yield Finding("Caffe on the GPU", "ok", said)
        else:
            yield _runs("Caffe on the GPU", build, there)
    elif find.gpus():
        said = "this Caffe was built for CPUs only"
        yield Finding("Caffe on the GPU", "missing", said, "make caffe-cuda builds the other one.")


def _pycaffe(here: find.Caffe) -> Finding:
    try:
        python = find.interpreter()
        env = run.environment(here, 1, quiet=True)
        ask(python, "-c", "import caffe", env=env, seconds=_IMPORT)
    except MachineError as error:
        todo = "Name the Python that it was built for in CAFFE_PYTHON."
        return Finding("pycaffe", "problem", f"{error} Caffe trains, but nothing is tested.", todo)
    return Finding("pycaffe", "ok", f"imported by {python}")


def _named(card: Card) -> str:
    capability = "unknown" if card.capability is None else dotted(card.capability)
    driver = "unknown" if card.driver is None else ".".join(map(str, card.driver))
    return f"{card.name} (compute capability {capability}, driver {driver})"


def _runs(name: str, build: Build, there: Sequence[Card]) -> Finding:
    said = [preflight.problem(card, build) for card in there]
    if not all(said):
        fitting = ", ".join(c.name for c, why in zip(there, said, strict=True) if why is None)
        return Finding(name, "ok", f"{build.name}, CUDA {dotted(build.cuda)}, runs on {fitting}")
    return Finding(name, "problem", str(said[0]))
