"""README.md and the pages of docs/ as tests read them: fenced blocks, commands, words in backticks.

An HTML comment right above a fence, which no reader sees, says what a test does with it:

    <!-- run in a fresh clone -->           commands, run in the page's order in a copy of the clone with pictures
    <!-- run where pets is trained -->      the same, in a copy in which the README's commands have been run
    <!-- write FILE in a fresh clone -->    the block is written to that file there
    <!-- not run: REASON -->                commands that need something else, one of REASONS; they are checked as
                                            far as their programs, options, targets and files go
    <!-- no config: WHAT -->                YAML that is no part of a config
    <!-- recaffe says -->                   lines that recaffe's own code says, `…` for what varies
    <!-- snakemake says -->                 the same of Snakemake's

`, exits N` at a comment's end: the block's last command ends with this status instead of 0.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from recaffe.config import ROOT

PLACES = ("a fresh clone", "pets is trained")
REASONS = (
    "a download", "a GPU", "a package registry", "Docker", "Kubernetes", "long", "real Caffe", "root",
    "several nodes", "SLURM", "the built image", "the fuzzer", "a browser", "a server", "a terminal",
)  # fmt: skip
SHELL = ("sh", "console")
LANGUAGES = (*SHELL, "cpp", "csv", "json", "make", "prototxt", "python", "text", "yaml")
_FENCE = re.compile(r"(?P<indent> *)```(?P<language>\S*)")
_NOTE = re.compile(r" *<!-- (?P<note>.+?) -->")


@dataclass(frozen=True)
class Block:
    """A fenced block: where it begins, its language, its text, and the comment above it."""

    page: Path
    line: int
    language: str
    text: str
    note: str

    @property
    def where(self) -> str:
        """PAGE:LINE, as editors jump to it."""
        return f"{self.page.relative_to(ROOT)}:{self.line}"

    @property
    def place(self) -> str:
        """Where its commands run, one of PLACES; "" if they don't."""
        found = re.match(r"(?:run|write \S+) (?:in|where) ([^,]+)", self.note)
        return found[1] if found else ""

    @property
    def target(self) -> str:
        """The file that it is written to; "" if it isn't."""
        found = re.match(r"write (\S+) ", self.note)
        return found[1] if found else ""

    @property
    def reason(self) -> str:
        """What its commands would need to be run, one of REASONS; "" if they are run."""
        return self.note.removeprefix("not run: ") if self.note.startswith("not run: ") else ""

    @property
    def status(self) -> int:
        """The status with which the last command ends."""
        found = re.search(r", exits (\d+)$", self.note)
        return int(found[1]) if found else 0

    def commands(self) -> list[str]:
        """Its commands; lines that a backslash joins are one. In `console` those behind `$ `."""
        lines = self.text.replace("\\\n", " ").splitlines()
        if self.language == "console":
            lines = [line[2:] for line in lines if line.startswith("$ ")]
        return [line for line in map(str.strip, lines) if line and not line.startswith("#")]


def pages() -> list[Path]:
    """README.md and docs/*.md."""
    return [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def blocks(page: Path) -> list[Block]:
    """The fenced blocks of a page, in order."""
    found, lines = [], page.read_text(encoding="utf-8").splitlines()
    n = 0
    while n < len(lines):
        if opening := _FENCE.fullmatch(lines[n]):
            end = next(m for m in range(n + 1, len(lines)) if lines[m] == f"{opening['indent']}```")
            text = "\n".join(line.removeprefix(opening["indent"]) for line in lines[n + 1 : end])
            note = _NOTE.fullmatch(lines[n - 1]) if n else None
            found.append(
                Block(page, n + 1, opening["language"], text, note["note"] if note else "")
            )
            n = end
        n += 1
    return found


def prose(page: Path) -> str:
    """A page without its fenced blocks and comments."""
    text = re.sub(r"(?ms)^ *```.*?^ *```$", "", page.read_text(encoding="utf-8"))
    return re.sub(r"(?s)<!--.*?-->", "", text)


def spans(page: Path) -> list[str]:
    """Words in backticks, outside of fenced blocks."""
    return re.findall(r"(?<!`)`([^`\n]+)`(?!`)", prose(page))
