"""Names that hold markup, formulas or TeX are text wherever they are shown."""

from __future__ import annotations

import csv
import html.parser
from pathlib import Path

import pytest

from recaffe.evaluate import predictions
from tests.small_results import build_results


class Page(html.parser.HTMLParser):
    """The elements and attributes that a browser would see."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.text = ""
        self.inside = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs
        self.inside = tag

    handle_startendtag = handle_starttag

    def handle_data(self, data: str) -> None:
        if self.inside != "script":
            self.text += data


SCRIPT, IMAGE = "<script>alert(1)<script>", '"><img src=x onerror=alert(2)>'
MONEY = "$\\frac{ --> ]]> cost $5"
FORMULA = "=HYPERLINK(1)"
CLASSES = (SCRIPT, IMAGE, MONEY, FORMULA)
# Tables for programs, with names as they are: docs/integrity.md.
FOR_PROGRAMS = {"inventory.csv", "manifest.csv", "train.csv"}


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_results(tmp_path_factory.mktemp("hostile"), CLASSES, "\"'><b onload=alert(3)>")


def test_markup_in_names_is_shown_and_never_run(results: Path) -> None:
    report = (results / "report.html").read_text(encoding="utf-8")
    page = Page()
    page.feed(report)
    assert page.tags.count("script") == 3, "the report's own: two with code, one with data"
    assert "b" in page.tags, "the report's own"
    assert not [a for a, _ in page.attributes if a.startswith("on")]
    assert {v for a, v in page.attributes if a == "src" and v and not v.startswith("data:image/jpeg;base64,")} == set()  # fmt: skip
    assert "x" not in [v for a, v in page.attributes if a == "src"]
    for name in CLASSES:
        assert page.text.count(name) >= 3, "in tables and in figures"


def test_no_cell_of_a_table_for_people_starts_a_formula(results: Path) -> None:
    read = 0
    for file in results.rglob("*.csv"):
        if file.name.startswith(".") or file.name in FOR_PROGRAMS:
            continue
        with file.open(encoding="utf-8", newline="") as f:
            cells = {cell for row in csv.reader(f) for cell in row}
        bad = [c for c in cells if c[:1] in ("=", "+", "-", "@") and not is_number(c)]
        assert not bad, file.name
        read += f"'{FORMULA}" in cells
    assert read >= 2, "predictions.csv and classes.csv at least"
    found = predictions.read(results / "first" / "predictions.csv")
    assert set(found.classes) == set(CLASSES), "and recaffe reads them as they were"


def is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
