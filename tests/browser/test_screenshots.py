"""The pictures of the report in the docs: `make screenshots` makes them of the demonstration's, RECAFFE_REPORT=FILE of another one."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page

from tests.browser.reports import DEMONSTRATION

FOLDER = os.environ.get("RECAFFE_SCREENSHOTS", "")

pytestmark = pytest.mark.skipif(not FOLDER, reason="only `make screenshots` writes into docs/")


def opened(browser: Browser, width: int, height: int, scheme: str) -> Page:
    page = browser.new_page(
        viewport={"width": width, "height": height},
        color_scheme=scheme,  # type: ignore[arg-type]
    )
    page.goto(DEMONSTRATION.as_uri())
    return page


def test_the_top_of_the_report(browser: Browser) -> None:
    page = opened(browser, 1040, 1300, "light")
    page.screenshot(path=Path(FOLDER, "report.png"))


def test_a_cell_of_the_matrix_in_the_dark(browser: Browser) -> None:
    page = opened(browser, 1040, 760, "dark")
    page.locator("#matrix td button.miss").first.click()
    page.locator("dialog figure").first.wait_for()
    page.screenshot(path=Path(FOLDER, "report-dark.png"))


def test_heat_maps_on_a_phone(browser: Browser) -> None:
    page = opened(browser, 390, 800, "light")
    page.locator("#heat_maps").evaluate("(section) => section.scrollIntoView()")
    page.screenshot(path=Path(FOLDER, "report-phone.png"))
