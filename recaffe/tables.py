"""Names in the tables that people open: a spreadsheet would take some for formulas.

A file may be called `=HYPERLINK(...)` or a class `@home`. Such a text is written with an apostrophe
before it, which spreadsheets take for "text follows"; so is one that begins with an apostrophe, so
that nothing is lost. What these files are read with takes it away again. Inventory, manifest, lists
and labels.txt are for programs, and hold names as they are.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

_RISKY = re.compile(r"[=+\-@\t\r']")
# `-1` and `+1` are classes of many data sets, and harmless.
_NUMBER = re.compile(r"[+-]?\d+(\.\d*)?")


def cell_of(text: str) -> str:
    """A text as a table's field."""
    return f"'{text}" if _RISKY.match(text) and not _NUMBER.fullmatch(text) else text


def text_of(cell: str) -> str:
    """The text that `cell_of` made a field of."""
    return cell.removeprefix("'")


def csv_blocks(rows: Iterable[Iterable[Any]]) -> Iterator[bytes]:
    """Rows as CSV, some at a time; what isn't UTF-8 in names of files is written as it was."""
    rows = iter(rows)
    while some := list(islice(rows, 1024)):
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows(some)
        yield text.getvalue().encode("utf-8", "surrogateescape")


def rows(path: Path) -> list[dict[str, str]]:
    """The rows of a table, its texts as they were before they became fields."""
    with path.open(encoding="utf-8", newline="", errors="surrogateescape") as f:
        return [
            {key: text_of(value) for key, value in row.items() if isinstance(value, str)}
            for row in csv.DictReader(f)
        ]
