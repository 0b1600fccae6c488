"""NVIDIA's cards, and what each engine's programs were compiled for: the data of the preflight.

Sources: NVIDIA's list of compute capabilities; the tables of drivers in CUDA's release notes; the
CUDA support matrix of PyTorch's RELEASE.md; BVLC's own docker/gpu/Dockerfile and cmake/Cuda.cmake;
docker/caffe/cuda/archs.sh.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

# (12, 1) is 12.1: of compute capabilities, CUDA's and a driver's versions alike.
Version = tuple[int, ...]

# Generation, cards, compute capabilities.
CARDS: tuple[tuple[str, str, tuple[Version, ...]], ...] = (
    ("Kepler", "GeForce 600 and 700, Tesla K40, K80", ((3, 0), (3, 5), (3, 7))),
    ("Maxwell", "GeForce 900, Titan X, Tesla M40", ((5, 0), (5, 2))),
    ("Pascal", "Tesla P100", ((6, 0),)),
    ("Pascal", "GeForce 10, Titan Xp, Tesla P4, P40", ((6, 1),)),
    ("Volta", "V100, Titan V", ((7, 0),)),
    ("Turing", "T4, GeForce 16 and 20, Quadro RTX", ((7, 5),)),
    ("Ampere", "A100, A30", ((8, 0),)),
    ("Ampere", "A10, A40, RTX A6000, GeForce 30", ((8, 6),)),
    ("Ada", "L4, L40, GeForce 40", ((8, 9),)),
    ("Hopper", "H100, H200, GH200", ((9, 0),)),
    ("Blackwell", "B200, GB200", ((10, 0),)),
    ("Blackwell", "B300, GB300", ((10, 3),)),
    ("Blackwell", "GeForce 50, RTX PRO", ((12, 0),)),
    ("Blackwell", "GB10", ((12, 1),)),
)

# The oldest Linux driver that runs programs of each CUDA: from 11 on of the whole major version.
_OLDEST: dict[Version, Version] = {
    (8, 0): (375, 26), (9, 0): (384, 81), (9, 1): (390, 46), (9, 2): (396, 26), (10, 0): (410, 48),
    (10, 1): (418, 39), (10, 2): (440, 33), (11,): (450, 80, 2), (12,): (525, 60, 13), (13,): (580,),
}  # fmt: skip
# The driver that came with a CUDA: PTX of that CUDA is compiled by it and by newer ones only.
_WITH: dict[Version, Version] = {
    (12, 6): (560, 28, 3), (12, 8): (570, 26), (12, 9): (575, 51, 3), (13, 0): (580, 65, 6),
    (13, 1): (590, 44, 1),
}  # fmt: skip


@dataclass(frozen=True)
class Code:
    """Code for one compute capability; `only` for that very one (a), `ptx` is for the driver to
    compile."""

    capability: Version
    ptx: bool = False
    only: bool = False

    def runs_on(self, card: Version) -> bool:
        """Machine code runs on its own major version, from its minor on; PTX on all that is newer."""
        if self.only:
            return card == self.capability
        return card >= self.capability and (self.ptx or card[0] == self.capability[0])


@dataclass(frozen=True)
class Build:
    """What an engine's program was built with and for; `remedy` is what helps if that doesn't fit."""

    name: str
    cuda: Version
    codes: tuple[Code, ...]
    remedy: str = ""

    def code_for(self, card: Version) -> Code | None:
        """The code that would run there: the nearest, machine code before PTX."""
        fitting = [c for c in self.codes if c.runs_on(card)]
        return max(fitting, key=lambda c: (not c.ptx, c.capability), default=None)

    def oldest_driver(self, *, ptx: bool = False) -> Version | None:
        """The driver that it wants at least; None where that isn't known."""
        oldest = _OLDEST.get(self.cuda) or _OLDEST.get(self.cuda[:1])
        return _WITH.get(self.cuda) or oldest if ptx else oldest

    def named(self) -> str:
        """Its compute capabilities for a message."""
        code = sorted({c.capability for c in self.codes if not c.ptx})
        ptx = sorted({c.capability for c in self.codes if c.ptx})
        words = ", ".join(map(dotted, code)) or "none"
        return words + "".join(f" and PTX for {dotted(v)}" for v in ptx)


def dotted(version: Version) -> str:
    """(12, 1) as 12.1."""
    return ".".join(map(str, version))


def version_of(text: str) -> Version:
    """12.1 as (12, 1); raises `ValueError` for what is no version."""
    if not re.fullmatch(r"\d+(\.\d+)*", text.strip()):
        raise ValueError(f"{text!r} is no version")
    return tuple(map(int, text.strip().split(".")))


def code_of(name: str) -> Code | None:
    """A name of nvcc's: sm_86, sm_90a, compute_120; None for what is none (AMD's, say)."""
    match = re.fullmatch(r"(sm|compute)_(\d+)(\d)([af]?)", name)
    if match is None:
        return None
    kind, major, minor, suffix = match.groups()
    # `f` is for one family: cards of its major version, as other machine code.
    return Code((int(major), int(minor)), ptx=kind == "compute", only=suffix == "a")


def codes_of(code: str, ptx: str = "") -> tuple[Code, ...]:
    """Capabilities as people write them: "7.5 8.0" and "12.0"."""
    return (
        *(Code(version_of(v)) for v in code.split()),
        *(Code(version_of(v), ptx=True) for v in ptx.split()),
    )


# A test compares these with what the recipe and the pin say.
TORCH_VERSION = "2.13.0"
TORCH: dict[Version, tuple[Code, ...]] = {
    (12, 6): codes_of("5.0 6.0 7.0 7.5 8.0 8.6 9.0"),
    (13, 0): codes_of("7.5 8.0 8.6 9.0 10.0 12.0", "12.0"),
}
BVLC = Build("bvlc/caffe:gpu", (8, 0), codes_of("2.0 3.0 3.5 5.0 6.0 6.1"))
CAFFE = Build("engine: caffe", (13, 0), codes_of("7.5 8.0 8.6 9.0 10.0 12.0", "12.0"))


def table() -> str:
    """Cards × engines as Markdown, for docs/gpus.md."""
    torch = [Build(f"engine: torch, CUDA {dotted(c)}", c, codes) for c, codes in TORCH.items()]
    builds = [BVLC, CAFFE, *reversed(torch)]
    rows = [["Generation", "Cards", "Compute capability", *(b.name for b in builds)]]
    rows.append(["---"] * len(rows[0]))
    for generation, cards, capabilities in CARDS:
        cells = [_cell(b, capabilities) for b in builds]
        rows.append([generation, cards, ", ".join(map(dotted, capabilities)), *cells])
    drivers = [b.oldest_driver() for b in builds]
    rows.append(["Driver at least", "", "", *(dotted(d) for d in drivers if d is not None)])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows) + "\n"


def _cell(build: Build, capabilities: tuple[Version, ...]) -> str:
    cells = []
    for card in capabilities:
        code = build.code_for(card)
        if code is None:
            cells.append("no")
        elif code.ptx:
            cells.append(f"by PTX for {dotted(code.capability)}")
        elif code.capability == card:
            cells.append("yes")
        else:
            cells.append(f"by the code for {dotted(code.capability)}")
    if len(set(cells)) == 1:
        return cells[0]
    return ", ".join(f"{dotted(c)}: {cell}" for c, cell in zip(capabilities, cells, strict=True))


if __name__ == "__main__":
    print(table(), end="")
