"""The documentation's site in a browser: pages, search, and nothing from another server."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.docs.conftest import site as site  # a fixture


class Quiet(SimpleHTTPRequestHandler):
    """Says nothing about each file."""

    def log_message(self, format: str, *args: object) -> None: ...


@pytest.fixture
def address(site: Path) -> Iterator[str]:
    """The site, served on this machine."""
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(site))) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_every_page_opens_and_asks_no_other_server(page: Page, site: Path, address: str) -> None:
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    names = sorted(file.name for file in site.glob("*.html") if file.name != "404.html")
    for name in names:
        page.goto(f"{address}/{name}")
        expect(page.locator("h1")).to_have_count(1)
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


@pytest.mark.parametrize("width", [390, 800, 1440])
def test_no_page_is_wider_than_its_window(page: Page, site: Path, address: str, width: int) -> None:
    page.set_viewport_size({"width": width, "height": 800})
    wide = []
    for file in site.glob("*.html"):
        page.goto(f"{address}/{file.name}")
        if page.evaluate("document.documentElement.scrollWidth > innerWidth"):
            wide.append(file.name)
    assert not wide
