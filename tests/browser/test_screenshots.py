"""The pictures of report and server in the docs, made by `make screenshots`.

The top of the report is the demonstration's (RECAFFE_REPORT=FILE takes another one); where pictures show, they
are drawn ones.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page

from tests.browser import drawn
from tests.browser.reports import DEMONSTRATION
from tests.browser.test_serve import drop
from tests.served import started

FOLDER = os.environ.get("RECAFFE_SCREENSHOTS", "")

pytestmark = pytest.mark.skipif(not FOLDER, reason="only `make screenshots` writes into docs/")


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return drawn.report(tmp_path_factory.mktemp("drawn"))


def opened(report: Path, browser: Browser, width: int, height: int, scheme: str) -> Page:
    page = browser.new_page(
        viewport={"width": width, "height": height},
        color_scheme=scheme,  # type: ignore[arg-type]
    )
    page.goto(report.as_uri())
    return page


def test_the_top_of_the_report(browser: Browser) -> None:
    page = opened(DEMONSTRATION, browser, 1040, 1300, "light")
    page.screenshot(path=Path(FOLDER, "report.png"))


def test_a_cell_of_the_matrix_in_the_dark(results: Path, browser: Browser) -> None:
    page = opened(results / "report.html", browser, 1040, 760, "dark")
    page.locator("#matrix td button.miss").first.click()
    page.locator("dialog figure").first.wait_for()
    page.screenshot(path=Path(FOLDER, "report-dark.png"))


def test_heat_maps_on_a_phone(results: Path, browser: Browser) -> None:
    page = opened(results / "report.html", browser, 390, 800, "light")
    page.locator("#heat_maps").evaluate("(section) => section.scrollIntoView()")
    page.screenshot(path=Path(FOLDER, "report-phone.png"))


def test_the_page_of_a_served_model(results: Path, browser: Browser) -> None:
    # Of the pictures that the net has never seen.
    lines = (results / "data" / "test.txt").read_text(encoding="utf-8").splitlines()
    root = results.parents[1] / "pictures"
    pictures = [root / line.rpartition(" ")[0] for line in lines[:6]]
    with started(min(results.glob("*/model"))) as (_, address):
        page = browser.new_page(viewport={"width": 1040, "height": 900})
        page.goto(address)
        page.get_by_label("Unsure below").fill("70")
        page.get_by_label("Show where the net looked").check()
        drop(page, *((x.name, x.read_bytes()) for x in pictures))
        page.get_by_text("6 of 6 pictures classified").wait_for()
        page.screenshot(path=Path(FOLDER, "serve.png"))
