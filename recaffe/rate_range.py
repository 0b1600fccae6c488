"""The lr range test: a short training in which the rate grows, and the rate that its losses propose.

Source: L. N. Smith, Cyclical Learning Rates for Training Neural Networks (2017). Here the rate grows by
the same factor at each iteration, which is Caffe's lr_policy `exp`, from the weights that the training
itself starts from. Where the loss is lowest, the rate is already the highest that the net stands for a few
iterations; a training keeps a rate for thousands. So a tenth of it is proposed, rounded to 1, 2 or 5
times a power of ten: a test of one pass of noisy batches says no more than that.
"""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from recaffe.errors import ConfigError, TrainError
from recaffe.proto import caffe_pb2 as pb

FEWEST = 20  # iterations
_SHARE = 0.1  # of the rate at the lowest loss
_MEMORY = 0.9  # of the running mean that tells divergence
_PATIENCE = 5  # iterations before it may
_GROWN = 4.0  # times the lowest loss that was
_WIDTH = 1 / 40  # of the test: the smoothing's standard deviation
_LEAST_FALL = 0.05  # of the first loss
_LEAST_SIGMAS = 5.0  # of what chance does to a smoothed loss
# What a test leaves in a run's folder.
FILES = ("lr_range.csv", "lr_range.json")
COLUMNS = ("iteration", "lr", "loss", "smoothed_loss")


@dataclass(frozen=True)
class Span:
    """The rates to try: from `least` to `most` in so many iterations.

    Raises `ConfigError` where that is no range.
    """

    least: float = 1e-6
    most: float = 1.0
    iterations: int = 100

    def __post_init__(self) -> None:
        if not 0 < self.least < self.most or not math.isfinite(self.most):
            raise ConfigError(
                f"The lr range test goes from {self.least:g} to {self.most:g}; the first must be above 0 and "
                "below the second."
            )
        if self.iterations < FEWEST:
            raise ConfigError(
                f"The lr range test has {self.iterations} iterations; it takes at least {FEWEST}."
            )


@dataclass(frozen=True)
class Proposal:
    """What the curve says. Rates are base_lr's; layers multiply them by their lr_mult.

    `base_lr` is None where the loss didn't fall; `said` says why, or what to be careful about.
    `minimum` is the rate of the lowest smoothed loss, `steepest` that of its steepest fall before.
    """

    base_lr: float | None
    minimum: float | None
    steepest: float | None
    said: str


def is_wanted(run: dict[str, Any]) -> bool:
    """Whether a run's rates are tested: to show the curve, or because the proposed rate is its own."""
    return bool(run["lr_range"]) or run["base_lr"] == "auto"


def plan(solver: pb.SolverParameter, span: Span) -> pb.SolverParameter:
    """The solver of the test: the given one's kind, momentum and decay, with a rate that grows.

    It neither tests nor snapshots. A random_seed of -1 becomes 0.
    """
    p = pb.SolverParameter()
    p.CopyFrom(solver)
    for field in (
        "power", "stepsize", "stepvalue", "test_iter", "test_interval", "test_net",
        "test_net_param", "test_state", "snapshot",
    ):  # fmt: skip
        p.ClearField(field)
    p.base_lr, p.lr_policy = span.least, "exp"
    p.gamma = (span.most / span.least) ** (1 / (span.iterations - 1))
    p.max_iter, p.display, p.average_loss, p.snapshot_after_train = span.iterations, 1, 1, False
    p.random_seed = max(0, solver.random_seed)
    return p


class Watcher:
    """Tells when the loss has left for good, so that the rest of the rates need not be tried."""

    def __init__(self) -> None:
        self._sum = self._weight = 0.0
        self._count = 0
        self._lowest, self._first = math.inf, math.nan

    def has_diverged(self, loss: float) -> bool:
        """See the next loss. Diverged is what is no number, or whose running mean is far above the lowest
        and above where it began."""
        if not math.isfinite(loss):
            return True
        self._count += 1
        self._sum = _MEMORY * self._sum + loss
        self._weight = _MEMORY * self._weight + 1
        mean = self._sum / self._weight
        self._lowest = min(self._lowest, mean)
        if self._count == _PATIENCE:
            self._first = mean
        return self._count > _PATIENCE and mean > max(_GROWN * self._lowest, self._first)


def smooth(losses: Sequence[float], iterations: int) -> list[float]:
    """Each loss as the mean of those around it, weighted by a Gaussian, which has no lag.

    `iterations` are the whole test's, of which the width is a fixed share. What lies far above the
    first losses counts as little more than these: one exploded loss must not hide the fall before it.
    """
    values = np.asarray(losses, np.float64)
    begin = values[:_PATIENCE].mean()
    values = np.minimum(values, begin + 3 * abs(begin))
    at = np.arange(len(values))
    weights = np.exp(-0.5 * ((at[:, None] - at[None, :]) / _width(iterations)) ** 2)
    return list((weights @ values / weights.sum(1)).tolist())


def _width(iterations: int) -> float:
    return max(1.0, _WIDTH * iterations)


def _scatter(losses: np.ndarray, iterations: int) -> float:
    """The standard deviation of smoothed losses that only chance moves.

    That of single ones follows from their steps, which a slow fall doesn't change much; a Gaussian mean
    of width w has 1 / (2 √π w) of their variance.
    """
    single = np.std(np.diff(losses)) / math.sqrt(2)
    return float(single / math.sqrt(2 * math.sqrt(math.pi) * _width(iterations)))


def propose(rates: Sequence[float], losses: Sequence[float], span: Span) -> Proposal:
    """A base_lr from the losses of a test that may have ended early; losses are finite."""
    if len(losses) < _PATIENCE * 2:
        return Proposal(
            None, None, None,
            f"The loss grew beyond all bounds in iteration {len(losses)}: start at a lower rate than "
            f"{span.least:g}.",
        )  # fmt: skip
    smoothed = np.array(smooth(losses, span.iterations))
    lowest = int(smoothed.argmin())
    # At the end of a curve chance moves a smoothed loss more than elsewhere, so several begin it.
    begin = float(np.mean(losses[: max(_PATIENCE, round(4 * _width(span.iterations)))]))
    fall = begin - smoothed[lowest]
    before = np.asarray(losses)[: max(lowest + 1, 2 * _PATIENCE)]
    chance = _LEAST_SIGMAS * _scatter(before, span.iterations)
    if lowest < 2 or fall < max(_LEAST_FALL * abs(begin), chance):
        return Proposal(
            None, None, None,
            "At no rate did the loss fall by more than chance makes it. Either the weights leave nothing to "
            "learn, or the test is too short: raise its number of iterations.",
        )  # fmt: skip
    slope = np.gradient(smoothed[: lowest + 1], np.log(np.asarray(rates[: lowest + 1])))
    minimum, steepest = rates[lowest], rates[int(slope.argmin())]
    said = ""
    if lowest >= span.iterations - 2:
        said = (
            f"The loss still fell at the highest rate, {span.most:g}: a higher one may serve. Raise the end "
            "of the range."
        )
    return Proposal(rounded(_SHARE * minimum), minimum, steepest, said)


def rounded(rate: float) -> float:
    """The nearest (by ratio) of 1, 2 and 5 times a power of ten."""
    power = math.floor(math.log10(rate))
    near = [step * 10.0**e for e in (power, power + 1) for step in (1, 2, 5)]
    best = min(near, key=lambda x: abs(math.log(x / rate)))
    return float(f"{best:.0e}")


def table(rates: Sequence[float], losses: Sequence[float], span: Span) -> str:
    """The curve as CSV: iteration, lr, loss, smoothed_loss."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(COLUMNS)
    smoothed = smooth(losses, span.iterations) if losses else []
    for i, row in enumerate(zip(rates, losses, smoothed, strict=True)):
        writer.writerow([i, *(f"{value:.6g}" for value in row)])
    return out.getvalue()


def proposed(file: Path) -> float:
    """The rate that a note of `note` proposes; raises `TrainError` if it proposes none."""
    found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    if found["base_lr"] is None:
        raise TrainError(
            f"base_lr is auto, but the lr range test ({file}) proposes no rate. {found['said']} Change "
            "lr_range_min, lr_range_max or lr_range_iters, or set base_lr to a number."
        )
    return float(found["base_lr"])


def note(found: Proposal, span: Span, ran: int, device: str, seed: int) -> dict[str, Any]:
    """The proposal and how it was come by, for a JSON file."""
    return {
        **asdict(found),
        "least": span.least,
        "most": span.most,
        "iterations": span.iterations,
        "ran": ran,
        "device": device,
        "seed": seed,
    }
