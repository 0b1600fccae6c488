"""`snakemake --report`: the outputs worth showing, by category, without a network."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.workflow import running
from tests.workflow.faults.small import Small

SHOWN = {
    "Data": {"classes", "twins"},
    "Net": {"layers"},
    "Training": {"learning curves"},
    "Test": {"predictions", "metrics"},
    "Report": {"report", "runs", "groups"},
}


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    small = Small.begin(tmp_path_factory.mktemp("shown"))
    small.run(cores=2)
    file = small.folder / "all.html"
    running.ran(running.snakemake(small.file, "--report", str(file)))
    return file


@pytest.mark.parametrize("category", SHOWN)
def test_each_category_has_its_files(page: Page, written: Path, category: str) -> None:
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(written.as_uri())
    page.locator("a").get_by_text(category, exact=True).last.click()
    page.locator("table td").first.wait_for()
    for name in SHOWN[category]:  # in the table, or above it as one of a choice
        expect(page.get_by_text(name, exact=True).first).to_be_visible()
    assert [url for url in asked if not url.startswith("data:")] == [written.as_uri()]


def test_the_report_within_it_is_the_report(page: Page, written: Path) -> None:
    page.goto(written.as_uri())
    page.locator("a").get_by_text("Report", exact=True).last.click()
    row = page.locator("table tr", has=page.get_by_text("report", exact=True))
    row.locator("a").first.click()
    inner = page.frame_locator("iframe")
    expect(inner.locator("section#result .big")).to_be_visible()
    inner.locator("#matrix td button").first.click()
    expect(inner.locator("dialog figure").first).to_be_visible()
    inner.get_by_role("button", name="Close").click()
    inner.locator("#theme").click()
    expect(inner.locator("html")).to_have_attribute("data-theme", "dark")
