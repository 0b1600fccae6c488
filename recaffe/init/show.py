"""What was seen and chosen, for a person."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from recaffe.init.choose import Choice
from recaffe.init.survey import Survey

_MOST_CLASSES = 12


def lines(survey: Survey, odd: Sequence[str]) -> list[str]:
    """Classes, sizes, file formats, problems."""
    ranked = survey.counts.most_common()
    shown = ranked if len(ranked) <= _MOST_CLASSES else [*ranked[:8], *ranked[-3:]]
    width = max(len(name) for name, _ in shown)
    out = [f"{_total(survey)}:"]
    for n, (name, count) in enumerate(shown):
        if n == 8 and shown is not ranked:
            out.append(f"  … {len(ranked) - len(shown)} more …")
        out.append(f"  {_printable(name):{width}}  {count:>9,}")
    out += summary(survey, ())[1:]
    out += [f"Mind: {said}" for said in odd] or ["Nothing odd was found."]
    return list(map(_printable, out))


def summary(survey: Survey, odd: Sequence[str]) -> list[str]:
    """The same in a few lines, as the config's head has it."""
    wide, high = survey.numbers("width"), survey.numbers("height")
    sizes = (
        f"{wide.min():.0f}×{high.min():.0f} to {wide.max():.0f}×{high.max():.0f} pixels, "
        f"median {np.median(wide):.0f}×{np.median(high):.0f}"
    )
    kinds = Counter(row["format"] for row in survey.rows).most_common()
    formats = ", ".join(f"{kind} {count / len(survey.rows):.0%}" for kind, count in kinds[:5])
    looked = (
        "All were decoded."
        if survey.complete
        else f"{survey.looked:,} of them were decoded: a sample (--sample 0 decodes all)."
    )
    return [f"{_total(survey)}.", f"{sizes}; {formats}.", looked, *(f"Mind: {s}" for s in odd)]


def next_steps(out: Path, choices: Sequence[Choice]) -> list[str]:
    """What was written, and what to do with it."""
    value = {c.key: c.value for c in choices}
    file = shlex.quote(str(out))
    return [
        f"Wrote {out}: {value['net']} for {value['epochs']} epochs, engine {value['engine']}. The reasons "
        "are in it.",
        f"Next: recaffe doctor --config {file}",
        f"      snakemake --cores {value['threads']} --configfile {file}",
    ]


def _total(survey: Survey) -> str:
    given = f", in {' and '.join(sorted(survey.given))}" if survey.given else ""
    return f"{len(survey.items):,} files in {len(survey.labels):,} classes{given}, {survey.bytes / 1e6:,.1f} MB"


def _printable(text: str) -> str:
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)
