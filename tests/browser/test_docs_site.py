"""The documentation's site in a browser: pages, search, and nothing from another server."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Page, Route, expect

from tests.docs.conftest import site as site  # a fixture

SITE = "http://docs.test"


@pytest.fixture
def address(page: Page, site: Path) -> str:
    """Where `page` finds the site, without a server: a missing file is an error in its console."""

    def answer(route: Route) -> None:
        file = site / urlsplit(route.request.url).path.lstrip("/")
        if file.is_file():
            route.fulfill(path=file)
        else:
            route.fulfill(status=404)

    page.context.route(f"{SITE}/**", answer)
    return SITE


def test_every_page_fits_any_window_and_asks_no_other_server(
    page: Page, site: Path, address: str
) -> None:
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    names = sorted(file.name for file in site.glob("*.html") if file.name != "404.html")
    wide = []
    for name in names:
        page.goto(f"{address}/{name}")
        expect(page.locator("h1")).to_have_count(1)
        for width in (390, 800, 1440):
            page.set_viewport_size({"width": width, "height": 800})
            if page.evaluate("document.documentElement.scrollWidth > innerWidth"):
                wide.append((name, width))
    assert not wide
    assert len(asked) > len(names) > 10
    assert [url for url in asked if not url.startswith((address, "data:"))] == []


def test_the_search_finds_a_message_of_caffes(page: Page, address: str) -> None:
    page.goto(f"{address}/index.html")
    page.keyboard.press("/")
    page.keyboard.type("shape mismatch")
    found = page.locator(".md-search-result__link", has_text="Troubleshooting").first
    expect(found).to_be_visible()
    found.click()
    page.wait_for_url("**/troubleshooting.html*")
