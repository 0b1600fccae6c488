"""Two ways to do the same thing, timed in turn: A B A B …, so that a machine that slows down slows both."""

from __future__ import annotations

import csv
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from recaffe.provenance import PACKAGES

FIELDS = (
    "stage", "beside", "unit", "ours", "ours_min", "ours_max", "other", "other_min", "other_max",
    "ratio", "ratio_min", "ratio_max", "target", "runs", "checked",
)  # fmt: skip


@dataclass(frozen=True)
class Way:
    """One of the two: `run` does the work once and returns its seconds (of wall time)."""

    name: str
    run: Callable[[], float]


@dataclass
class Row:
    """A line of the table: seconds of each run, and what was found equal."""

    stage: str
    beside: str
    ours: list[float]
    other: list[float]
    target: float | None
    checked: str
    unit: str = "s"
    ratios: list[float] = field(init=False)

    def __post_init__(self) -> None:
        self.ratios = [b / a for a, b in zip(self.ours, self.other, strict=True)]

    def cells(self) -> dict[str, str]:
        """As the CSV has them; the ratio is the median of those of neighbouring runs."""
        out = {"stage": self.stage, "beside": self.beside, "unit": self.unit}
        for name, values in (("ours", self.ours), ("other", self.other), ("ratio", self.ratios)):
            out[name] = f"{statistics.median(values):.4g}" if values else ""
            out[f"{name}_min"] = f"{min(values):.4g}" if values else ""
            out[f"{name}_max"] = f"{max(values):.4g}" if values else ""
        target = "" if self.target is None else f"{self.target:g}"
        return {**out, "target": target, "runs": str(len(self.ours)), "checked": self.checked}

    def line(self) -> str:
        """As the terminal shows it."""
        c = self.cells()
        verdict = ""
        if self.target is not None and self.ratios:
            verdict = "met" if statistics.median(self.ratios) >= self.target else "NOT MET"
        return (
            f"{self.stage:44} {c['ours']:>9} {c['other']:>9} {c['ratio']:>7} "
            f"({c['ratio_min']} to {c['ratio_max']}) target {c['target'] or '-'} {verdict}"
        )


def beside(stage: str, ours: Way, other: Way, runs: int, target: float | None, checked: str) -> Row:
    """Time both in turn, after one run of each that doesn't count."""
    ours.run(), other.run()
    pairs = [(ours.run(), other.run()) for _ in range(runs)]
    return Row(stage, other.name, [a for a, _ in pairs], [b for _, b in pairs], target, checked)


def seconds(
    command: Sequence[str | Path], environ: Mapping[str, str] | None = None, cwd: Path | None = None
) -> float:
    """Wall time of a whole process. Raises `RuntimeError` with what it said if it fails."""
    began = time.perf_counter()
    said(command, environ, cwd)
    return time.perf_counter() - began


def said(
    command: Sequence[str | Path], environ: Mapping[str, str] | None = None, cwd: Path | None = None
) -> str:
    """What a command prints on both streams. Raises `RuntimeError` with its end if it fails."""
    done = subprocess.run(
        list(map(str, command)), env={**os.environ, **(environ or {})}, cwd=cwd, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False,
    )  # fmt: skip
    if done.returncode:
        raise RuntimeError(f"{' '.join(map(str, command))}\n{done.stdout[-2000:]}")
    return done.stdout


def python(code: str, *args: object) -> list[str]:
    """The command that runs a piece of Python with these arguments in sys.argv[1:]."""
    return [sys.executable, "-c", code, *map(str, args)]


def machine() -> dict[str, str]:
    """What the figures depend on besides the code."""
    return {
        "date": f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
        **processor(),
        "cores": str(len(os.sched_getaffinity(0))),
        "load_at_start": f"{os.getloadavg()[0]:.2f}",
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        **{name: version(name) for name in PACKAGES},
    }


def processor() -> dict[str, str]:
    """Which one: its name may hide a generation, but not the family, the model and the vectors it computes with."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").split("\n\n")[0].splitlines() if info.exists() else []
    facts = {name.strip(): value.strip() for name, _, value in (x.partition(":") for x in lines)}
    name = ", ".join(
        facts[key] if key == "model name" else f"{key} {facts[key]}"
        for key in ("model name", "cpu family", "model")
        if key in facts
    )
    flags = facts.get("flags", "").split()
    vectors = [flag for flag in ("avx2", "avx512f", "avx512_bf16", "amx_tile") if flag in flags]
    return {"processor": name or platform.machine(), "vectors": " ".join(vectors)}


def store(path: Path, rows: Sequence[Row], about: Mapping[str, str]) -> None:
    """The table as CSV, the machine in comment lines at its top."""
    write(path, FIELDS, [row.cells() for row in rows], about)


def write(
    path: Path, fields: Sequence[str], rows: Iterable[Mapping[str, Any]], about: Mapping[str, str]
) -> None:
    """Any table of results in that form."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="") as f:
        f.writelines(f"# {name}: {value}\n" for name, value in about.items())
        table = csv.DictWriter(f, fields, lineterminator="\n")
        table.writeheader()
        table.writerows(rows)
