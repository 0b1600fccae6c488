"""The site is whole, and asks no other server for anything."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

# What a browser fetches by itself. Links (`a`) are followed by the reader alone.
FETCHED = {
    "audio": "src", "embed": "src", "iframe": "src", "img": "src", "input": "src", "link": "href",
    "object": "data", "script": "src", "source": "src", "video": "src",
}  # fmt: skip


class Page(HTMLParser):
    """What a page fetches, links to, and can be linked to by."""

    def __init__(self, file: Path) -> None:
        super().__init__()
        self.fetched: list[str] = []
        self.links: list[str] = []
        self.anchors: set[str] = set()
        self.feed(file.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {key: value or "" for key, value in attrs}
        self.anchors |= {given[key] for key in ("id", "name") if key in given}
        if target := given.get(FETCHED.get(tag, "")):
            self.fetched.append(target)
        if tag == "a" and "href" in given:
            self.links.append(given["href"])


def test_pages_fetch_nothing_from_elsewhere(site: Path) -> None:
    pages = {file: Page(file) for file in site.glob("*.html")}
    assert len(pages) > 10
    outside = {
        (file.name, target)
        for file, page in pages.items()
        for target in page.fetched
        if urlsplit(target).netloc
    }
    assert not outside
    assert sum(len(page.fetched) for page in pages.values()) > len(pages)


def test_stylesheets_fetch_nothing_from_elsewhere(site: Path) -> None:
    sheets = list(site.rglob("*.css"))
    assert sheets
    for sheet in sheets:
        text = sheet.read_text(encoding="utf-8")
        assert not re.findall(r"(?:url\(|@import)\s*[\"']?(?:https?:)?//", text), sheet


def test_every_link_within_the_site_leads_somewhere(site: Path) -> None:
    pages = {file.resolve(): Page(file) for file in site.glob("*.html")}
    broken = []
    for file, page in pages.items():
        if file.name == "404.html":  # served from any depth: its links start from the root
            continue
        for link in (*page.links, *page.fetched):
            to = urlsplit(link)
            if to.scheme or to.netloc:
                continue
            target = (file.parent / unquote(to.path)).resolve() if to.path else file
            target = target / "index.html" if target.is_dir() else target
            known = pages[target].anchors if target in pages else set()
            if not target.is_file() or (to.fragment and unquote(to.fragment) not in known):
                broken.append((file.name, link))
    assert not broken
