"""The report as a reader's browser shows it: at three widths, light and dark, on paper, by mouse and by keyboard."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import Page, Request

from tests.browser import reports

WIDTHS = (390, 820, 1440)
SECTIONS = (
    "result", "runs", "data", "net", "training", "classes", "pictures", "heat_maps", "calibration",
    "speed", "provenance",
)  # fmt: skip


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return reports.rich(tmp_path_factory.mktemp("rich")) / "report.html"


def visit(page: Page, file: Path) -> list[str]:
    """Open a report; returns the addresses that it asks for, a list that grows."""
    asked: list[str] = []

    def heard(request: Request) -> None:
        if not request.url.startswith("data:"):
            asked.append(request.url)

    page.on("request", heard)
    page.goto(file.as_uri())
    return asked


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", WIDTHS)
def test_nothing_is_wider_than_the_window_and_every_picture_shows(
    page: Page, report: Path, width: int, scheme: str
) -> None:
    page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
    page.set_viewport_size({"width": width, "height": 800})
    asked = visit(page, report)
    for details in page.locator("details").all():
        details.locator("summary").click()
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.evaluate("document.body.scrollWidth") <= width
    broken = page.evaluate(
        """Promise.all([...document.images].map(
            (image) => image.decode().then(() => "", () => image.outerHTML.slice(0, 99)),
        ))"""
    )
    assert len(broken) > 50
    assert not list(filter(None, broken))
    assert asked == [report.as_uri()], "and nothing is fetched"
