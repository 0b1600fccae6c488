"""Before a training on a GPU: does the engine's code run on this card, under this driver?

`python -m recaffe.engines.preflight` says what was found.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from recaffe.engines import cards
from recaffe.engines.cards import Build, Version, dotted, version_of
from recaffe.errors import MachineError, RecaffeError

patience = 60.0  # seconds for nvidia-smi: a driver that wakes up its cards takes some
_CPU = "Or train on the CPU: device: cpu."
_TORCH_REMEDY = "Use a PyTorch built for it, or the image recaffe:gpu (runtime: docker; docs/gpus.md has a table)."
_CAFFE_REMEDY = (
    "Build Caffe for this card (CUDA_ARCHS={card} make caffe-cuda), or train with engine: torch "
    "(docs/gpus.md has a table)."
)


@dataclass(frozen=True)
class Card:
    """A GPU of this machine, as nvidia-smi numbers it; capability and driver None where unknown."""

    index: int
    name: str
    capability: Version | None
    driver: Version | None
    uuid: str = ""


def found() -> list[Card]:
    """All cards that the driver knows.

    Raises `MachineError` if there is no driver, it doesn't work, or nvidia-smi can't be understood.
    """
    said = _ask("index,name,driver_version,uuid,compute_cap")
    if "not a valid field" in said:  # drivers before 510
        said = _ask("index,name,driver_version,uuid")
    out = []
    for line in filter(None, map(str.strip, said.splitlines())):
        try:
            index, name, driver, uuid, *rest = map(str.strip, line.split(","))
            capability = version_of(rest[0]) if rest else None
            out.append(Card(int(index), name, capability, version_of(driver), uuid))
        except ValueError as error:
            raise MachineError(
                f"nvidia-smi doesn't list cards but says: {said.strip()[:300]!r}. Does it work by "
                f"itself? {_CPU}"
            ) from error
    if not out:
        raise MachineError(f"The NVIDIA driver finds no card in this machine. {_CPU}")
    return out


def gigabytes() -> dict[int, float]:
    """Memory of the cards by their index, in GB; a card that doesn't say isn't among them.

    Raises `MachineError` as `found` does.
    """
    out = {}
    for line in _ask("index,memory.total").splitlines():
        index, _, size = line.partition(",")
        with suppress(ValueError, IndexError):  # a card may answer [N/A]
            out[int(index)] = float(size.split()[0]) * 2**20 / 1e9
    return out


def _ask(fields: str) -> str:
    try:
        done = subprocess.run(
            ["nvidia-smi", f"--query-gpu={fields}", "--format=csv,noheader"],
            capture_output=True, text=True, errors="replace", timeout=patience, check=False,
        )  # fmt: skip
    except FileNotFoundError as error:
        raise MachineError(
            "There is no nvidia-smi, so no NVIDIA driver here. Install the driver; in a container, start "
            f"it with its GPUs (docker run --gpus all, apptainer exec --nv). {_CPU}"
        ) from error
    except (OSError, subprocess.TimeoutExpired) as error:
        raise MachineError(f"nvidia-smi doesn't work here: {error}. {_CPU}") from error
    said = done.stdout + done.stderr
    if done.returncode and "not a valid field" not in said:
        if "No devices were found" in said:
            return ""
        raise MachineError(
            f"The NVIDIA driver doesn't work here; nvidia-smi says: {said.strip()[:300]} Install or "
            f"reload the driver (a new one wants a restart). {_CPU}"
        )
    return said if done.returncode else done.stdout


def visible(all_cards: Sequence[Card], environ: Mapping[str, str] = os.environ) -> list[Card]:
    """Those that CUDA_VISIBLE_DEVICES leaves, in its order; numbers count as nvidia-smi's."""
    chosen = environ.get("CUDA_VISIBLE_DEVICES")
    if chosen is None or "MIG-" in chosen:  # a slice's name doesn't say of which card
        return list(all_cards)
    out = []
    for name in map(str.strip, chosen.split(",")):
        card = next(
            (
                c
                for c in all_cards
                if name == str(c.index) or (name.startswith("GPU-") and c.uuid.startswith(name))
            ),
            None,
        )
        if card is None:  # CUDA stops there, too
            break
        out.append(card)
    return out


def problem(card: Card, build: Build) -> str | None:
    """Why the build doesn't run on the card, and what to do; None if it does, or nobody can know."""
    code = None if card.capability is None else build.code_for(card.capability)
    if card.capability is not None and build.codes and code is None:
        newer = all(card.capability > c.capability for c in build.codes)
        return (
            f"{card.name} has compute capability {dotted(card.capability)}, and {build.name} is compiled "
            f"for {build.named()}: the card is too {'new' if newer else 'old'} for it. "
            f"{build.remedy.format(card=dotted(card.capability))} {_CPU}"
        )
    ptx = code is not None and code.ptx
    oldest = build.oldest_driver(ptx=ptx)
    if card.driver is None or oldest is None or card.driver >= oldest or _has_newer_libcuda():
        return None
    wants = "for this card has but PTX for the driver to compile, which" if ptx else "which"
    return (
        f"The NVIDIA driver {_driver(card.driver)} is too old: {build.name} is built with CUDA "
        f"{dotted(build.cuda)}, {wants} wants {_driver(oldest)} or newer. Update the driver. {_CPU}"
    )


def check(build: Build, used: Sequence[Card]) -> None:
    """Raises `MachineError` for the first of the cards on which the build doesn't run."""
    for card in used:
        if (said := problem(card, build)) is not None:
            raise MachineError(said)


def check_caffe(home: Path, gpus: Sequence[int]) -> None:
    """Before `caffe train -gpu …`; `home` is the Caffe's folder, which says what it is built for.

    Raises `MachineError`. A Caffe without a build.json may be anything: only the driver is looked at.
    """
    build = caffe_build(home)
    there = visible(found())
    if build is None:
        return
    if os.environ.get("CUDA_DEVICE_ORDER") == "PCI_BUS_ID":
        check(build, [there[i] for i in gpus if i < len(there)])
        return
    # CUDA numbers the fastest card first, nvidia-smi by slots: which is which isn't known here.
    fitting = [card for card in there if problem(card, build) is None]
    if len(fitting) < max(1, len(gpus)):
        check(build, there)


def check_torch(index: int) -> None:
    """Before the torch engine uses a GPU that PyTorch sees; raises `MachineError`."""
    import torch

    build = torch_build()
    if build is not None:
        name, capability = (
            torch.cuda.get_device_name(index),
            torch.cuda.get_device_capability(index),
        )
        check(build, [Card(index, name, capability, None)])


@cache
def why_torch_sees_none() -> str:
    """Why PyTorch sees no GPU, and what to do."""
    try:
        there = visible(found())
    except MachineError as error:
        return str(error)
    if not there:
        return "CUDA_VISIBLE_DEVICES hides all GPUs."
    build = torch_build()
    if build is None:
        return (
            f"This PyTorch is built for CPUs, so it can't use the {there[0].name}. {_TORCH_REMEDY}"
        )
    said = next(filter(None, (problem(card, build) for card in there)), None)
    return said or f"nvidia-smi lists {there[0].name}, but CUDA doesn't start on it."


def torch_build() -> Build | None:
    """The PyTorch of this Python; None for one without CUDA."""
    import torch

    if torch.version.cuda is None:
        return None
    cuda = version_of(torch.version.cuda)[:2]
    # PyTorch lists what it has only where there is a GPU.
    codes = tuple(filter(None, map(cards.code_of, torch.cuda.get_arch_list())))
    name = f"PyTorch {torch.__version__}"
    return Build(name, cuda, codes or cards.TORCH.get(cuda, ()), _TORCH_REMEDY)


def caffe_build(home: Path) -> Build | None:
    """The Caffe in that folder, by its build.json; None for one without CUDA, or without the file.

    Raises `MachineError` if the file can't be read.
    """
    file = home / "build.json"
    if not file.is_file():
        return None
    try:
        facts = json.loads(file.read_text(encoding="utf-8"))
        if facts["cuda"] is None:
            return None
        codes = cards.codes_of(" ".join(facts["archs"]), " ".join(facts["ptx"]))
        cuda = version_of(facts["cuda"])[:2]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise MachineError(
            f"{file}, which says what Caffe is built for, can't be read ({error}). Build Caffe again: "
            "make caffe-cuda."
        ) from error
    return Build(f"the Caffe in {home}", cuda, codes, _CAFFE_REMEDY)


def _has_newer_libcuda() -> bool:
    """Whether NVIDIA's compatibility package brings its own libcuda, which older drivers may run."""
    return any(Path("/usr/local").glob("cuda*/compat/libcuda.so.*"))


def _driver(version: Version) -> str:
    """As NVIDIA writes it: 580.65.06."""
    return ".".join([str(version[0]), *(f"{part:02d}" for part in version[1:])])


def describe() -> tuple[str, bool]:
    """The cards, the engines here, and whether these run on those; True if one of them does."""
    from recaffe.engines.caffe import find

    lines, fits = [], False
    try:
        there = visible(found())
        lines += [
            f"GPU {c.index}: {c.name}, compute capability "
            f"{'unknown' if c.capability is None else dotted(c.capability)}, driver "
            f"{_driver(c.driver or (0,))}"
            for c in there
        ]
    except MachineError as error:
        there = []
        lines.append(str(error))
    builds: list[tuple[str, Build | None]] = []
    try:
        builds.append(("engine: torch", torch_build()))
    except ImportError:
        lines.append("engine: torch: there is no PyTorch in this Python.")
    try:
        home = find.find().program.parents[1]
        builds.append(("engine: caffe", caffe_build(home)))
    except RecaffeError as error:
        lines.append(f"engine: caffe: {error}")
    for name, build in builds:
        if build is None:
            lines.append(f"{name}: for CPUs, as far as it says")
            continue
        lines.append(f"{name}: {build.name}, CUDA {dotted(build.cuda)}, for {build.named()}")
        for card in there:
            said = problem(card, build)
            fits |= said is None
            lines.append(f"  GPU {card.index}: {said or 'runs'}")
    return "\n".join(lines), fits


if __name__ == "__main__":
    text, runs = describe()
    print(text)
    sys.exit(0 if runs else 1)
