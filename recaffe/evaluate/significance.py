"""Whether two runs differ by more than chance on the same test pictures.

McNemar's exact test (Psychometrika 12, 1947) looks only at the pictures that one run has right and the
other has wrong: if the runs were equally good, each of these would be a toss of a coin. Where several
pairs are looked at, Holm's step-down (Scand. J. Statist. 6, 1979) keeps the chance of any false claim
at 5 %.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

from recaffe.evaluate.answers import Answer

LEVEL = 0.05
# Beyond that, the first run is compared with each other one instead of each pair.
ALL_PAIRS = 6


@dataclass(frozen=True)
class Pair:
    """Two runs: pictures that both, only one, or none has right; p as it is and as Holm corrects it."""

    first: str
    second: str
    both: int
    only_first: int
    only_second: int
    neither: int
    p: float
    corrected: float

    @property
    def n(self) -> int:
        """Test pictures that both runs were tested on."""
        return self.both + self.only_first + self.only_second + self.neither

    @property
    def differ(self) -> bool:
        """Whether the difference is more than chance, at 5 % over all pairs together."""
        return self.corrected < LEVEL

    @property
    def better(self) -> str:
        """The run with more pictures right."""
        return self.first if self.only_first > self.only_second else self.second


def mcnemar(only_first: int, only_second: int) -> float:
    """Two-sided exact p-value from the pictures on which two runs disagree; 1 if there are none."""
    from scipy.stats import binomtest

    n = only_first + only_second
    return float(binomtest(only_first, n, 0.5).pvalue) if n else 1.0


def holm(values: Sequence[float]) -> list[float]:
    """p-values corrected for their number, in the given order."""
    corrected, least = [0.0] * len(values), 0.0
    for rank, i in enumerate(sorted(range(len(values)), key=values.__getitem__)):
        least = max(least, min(1.0, (len(values) - rank) * values[i]))
        corrected[i] = least
    return corrected


def compare(runs: Mapping[str, Sequence[Answer]]) -> list[Pair]:
    """Pairs of runs that were tested on the same pictures, all of them or those with the first run."""
    names = list(runs)
    few = len(names) <= ALL_PAIRS
    pairs = combinations(names, 2) if few else ((names[0], other) for other in names[1:])
    right = {name: {a.path: a.right for a in answers} for name, answers in runs.items()}
    same = [(a, b) for a, b in pairs if right[a].keys() == right[b].keys()]
    counts = [_counts(right[a], right[b]) for a, b in same]
    values = [mcnemar(c[1], c[2]) for c in counts]
    return [
        Pair(a, b, *c, p, corrected)
        for (a, b), c, p, corrected in zip(same, counts, values, holm(values), strict=True)
    ]


def _counts(one: Mapping[str, bool], two: Mapping[str, bool]) -> tuple[int, int, int, int]:
    """How many pictures both have right, only the first, only the second, and neither."""
    both = sum(right and two[path] for path, right in one.items())
    first, second = sum(one.values()), sum(two.values())
    return both, first - both, second - both, len(one) - first - second + both
