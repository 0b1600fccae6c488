"""The table's rows: what is measured beside what, and what is wanted."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence

from bench.gpu.files import Files
from bench.gpu.programs import Cost, Programs, Setting
from bench.measure import Row

# Wanted of recaffe: nearly the loop by hand's speed, an LMDB that costs at most 3 %, and 5 times Caffe's.
OF_PLAIN, OF_SYNTHETIC, OF_CAFFE = 0.95, 1 / 1.03, 5.0
_ALIKE = 1e-3


def of_caffe(files: Files, programs: Programs, runs: int) -> tuple[list[float], str]:
    """Seconds a step of Caffe in each run, and what was found equal; nothing where there is no Caffe.

    Raises `RuntimeError` if it fails, or if its losses aren't recaffe's.
    """
    if programs.caffe is None:
        return [], ""
    apart = programs.apart(files)
    if not apart < _ALIKE:
        raise RuntimeError(f"losses of recaffe and Caffe are {apart:.2g} apart")
    return [programs.theirs(files) for _ in range(runs)], f"losses at most {apart:.1g} apart"


def of_setting(
    files: Files, setting: Setting, programs: Programs, runs: int, caffe: tuple[list[float], str]
) -> Iterator[Row]:
    """One net in one setting: the four ways in turn, then the rows that they make."""
    ways = [
        (p, source) for source in ("synthetic", "lmdb") for p in (programs.ours, programs.plain)
    ]
    turns = [[way(files, source, setting) for way, source in ways] for _ in range(runs)]
    ours, plain, fed, plain_fed = ([turn[i] for turn in turns] for i in range(len(ways)))
    stage = f"{files.name}, batch {files.batch}, {setting}"

    def row(
        what: str, beside: str, mine: list[Cost], other: list[float], target: float | None
    ) -> Row:
        seconds = [cost.seconds for cost in mine]
        checked = f"{files.batch / statistics.median(seconds):,.0f} pictures a second"
        return Row(f"{stage}: {what}", beside, seconds, other, target, checked)

    def steps(costs: Sequence[Cost]) -> list[float]:
        return [cost.seconds for cost in costs]

    yield row("synthetic", "PyTorch by hand, a batch on the card", ours, steps(plain), OF_PLAIN)
    yield row("LMDB", "recaffe, synthetic", fed, steps(ours), OF_SYNTHETIC)
    yield row("LMDB", "PyTorch by hand, DataLoader", fed, steps(plain_fed), None)
    if caffe[0]:
        last = row("LMDB", "caffe train, fp32", fed, caffe[0], OF_CAFFE)
        last.checked += f"; in fp32, {caffe[1]}"
        yield last
    mine, other = ([cost.peak for cost in costs] for costs in (fed, plain_fed))
    yield Row(f"{stage}: peak memory", "PyTorch by hand, DataLoader", mine, other, None, "", "MiB")


def of_feed(files: Files, programs: Programs, runs: int, fastest: float) -> Row:
    """The data layer alone, beside the fastest step that it has to keep up with, in seconds."""
    seconds = [programs.feed(files) for _ in range(runs)]
    rate = f"{files.batch / statistics.median(seconds):,.0f} records a second"
    stage = f"{files.name}, batch {files.batch}: data layer alone"
    return Row(stage, "the fastest step, synthetic", seconds, [fastest] * runs, None, rate)
