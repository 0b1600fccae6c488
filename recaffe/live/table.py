"""How the view looks: a head line for the workflow, a line for each job that runs."""

from __future__ import annotations

import io
import math
import re
from collections.abc import Sequence
from typing import Literal

from rich.cells import cell_len
from rich.console import Console, Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from recaffe.live.jobs import Job, Jobs, number

_CODES = re.compile(r"\x1b\[[0-9;]*m")
_BLANKS = re.compile(rf"(?: |{_CODES.pattern})+$")
_NARROW = 76  # columns below which bars and small print are left out
# Of a training's numbers: what each is called, and how it is written.
_NUMBERS = (
    ("loss", "loss {:.3g}"), ("val_accuracy", "val {:.1%}"), ("images_per_second", "{:.0f} img/s"),
    ("epoch", "epoch {:.1f}"), ("lr", "lr {:.2g}"),
)  # fmt: skip


class _Paper(io.StringIO):
    """Rich draws in ASCII where this isn't a form of UTF."""

    def __init__(self, encoding: str) -> None:
        super().__init__()
        self._encoding = encoding

    @property
    def encoding(self) -> str:  # type: ignore[override]  # a text file's is writable
        return self._encoding


def width_of(line: str) -> int:
    """Columns that a line of a view takes."""
    return cell_len(_CODES.sub("", line))


class Painter:
    """Makes lines of the jobs, for terminals of one kind."""

    def __init__(self, title: str, colour: bool, encoding: str) -> None:
        self.title, self.encoding = title, encoding
        self.colours: Literal["auto"] | None = "auto" if colour else None

    def lines(self, jobs: Jobs, columns: int, rows: int, stopping: bool = False) -> list[str]:
        """The view, in at most so many rows of so many columns."""
        running = jobs.running()
        fits = max(1, rows - 2)
        shown = running if len(running) <= fits else running[: fits - 1]
        parts: list[RenderableType] = [self._head(jobs, running, columns, stopping)]
        parts.append(_table(shown, columns))
        if len(shown) < len(running):
            parts.append(Text(f"  and {len(running) - len(shown)} more", style="dim"))
        return self._text(Group(*parts), columns)

    def done(self, job: Job) -> str:
        """What is said of a job that is done."""
        mark = "✓" if self.encoding.lower().startswith("utf") else "done:"
        text = Text(mark, style="green").append(f" {job.name}", style="default")
        said = "  ".join([clock(job.seconds), *_said(job, ("loss", "val_accuracy"))])
        text.append(f"  {said}", style="dim")
        return self._text(text, 10_000)[0]

    def _head(
        self, jobs: Jobs, running: Sequence[Job], columns: int, stopping: bool
    ) -> RenderableType:
        words = f"{jobs.done} of {jobs.total} jobs  {clock(jobs.seconds)}"
        left = jobs.left(running)
        if stopping:
            words += "  stopping"
        elif left >= 1:
            words += f"  about {clock(left)} left"
        head = Table.grid(padding=(0, 2))
        head.add_column(no_wrap=True, max_width=max(8, columns // 4), overflow="ellipsis")
        row: list[RenderableType] = [Text(self.title, style="bold")]
        if columns >= _NARROW:
            head.add_column()
            row.append(ProgressBar(max(jobs.total, 1), jobs.done, width=20))
        head.add_column(no_wrap=True, overflow="ellipsis")
        head.add_row(*row, words)
        return head

    def _text(self, what: RenderableType, columns: int) -> list[str]:
        paper = _Paper(self.encoding)
        console = Console(
            file=paper,
            width=columns,
            force_terminal=True,
            highlight=False,
            markup=False,
            emoji=False,
            legacy_windows=False,
            no_color=self.colours is None,
            color_system=self.colours,
        )
        console.print(what)
        # A terminal that becomes narrower would wrap the blanks at a line's end.
        return [_BLANKS.sub(_without_blanks, line) for line in paper.getvalue().splitlines()]


def _without_blanks(end: re.Match[str]) -> str:
    return end[0].replace(" ", "")


def _table(running: Sequence[Job], columns: int) -> Table:
    table = Table.grid(padding=(0, 2), expand=True)
    wide = columns >= _NARROW
    table.add_column(no_wrap=True, overflow="ellipsis", max_width=max(10, columns // 3))
    if wide:
        table.add_column()
    table.add_column(no_wrap=True, justify="right", min_width=4)
    table.add_column(no_wrap=True, justify="right", min_width=9)
    table.add_column(no_wrap=True, overflow="ellipsis", ratio=1)
    for job in running:
        done, total = number(job.said, "done"), number(job.said, "total")
        share = done / total if total > 0 and done >= 0 else math.nan
        name = Text(f"  {job.name}")
        if math.isnan(share):
            state = "queued" if job.is_queued else clock(job.seconds)
            cells: list[RenderableType] = ["", Text(state, style="dim"), "", *_words(job)]
        else:
            left = "" if math.isnan(job.left) else f"{clock(job.left)} left"
            bar = ProgressBar(1.0, min(share, 1.0), width=20)
            cells = [bar, f"{share:.0%}", left, *_words(job)]
        table.add_row(name, *(cells if wide else cells[1:]))
    return table


def _words(job: Job) -> list[RenderableType]:
    done, total, unit = number(job.said, "done"), number(job.said, "total"), job.said.get("unit")
    parts = _said(job, [key for key, _ in _NUMBERS])
    if not math.isnan(done):
        of = f" of {total:,.0f}" if total > 0 else ""
        if unit == "B":
            parts.insert(0, f"{done / 1e6:,.1f}{f' of {total / 1e6:,.1f}' if total > 0 else ''} MB")
        else:
            parts.insert(0, f"{done:,.0f}{of} {unit}")
        rate = number(job.said, "rate")
        if unit == "img" and rate > 0:
            parts.append(f"{rate:,.0f} img/s")
    return [Text("  ".join(parts), style="dim")]


def _said(job: Job, keys: Sequence[str]) -> list[str]:
    return [
        form.format(value)
        for key, form in _NUMBERS
        if key in keys and not math.isnan(value := number(job.said, key))
    ]


def clock(seconds: float) -> str:
    """1:02:03, or 2:03 below an hour."""
    if not math.isfinite(seconds) or seconds >= 360_000_000:
        return "?"
    minutes, second = divmod(round(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02d}:{second:02d}" if hours else f"{minute}:{second:02d}"
