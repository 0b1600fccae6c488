"""The system's Chromium without a window, and pages that fail their test on an error in their console."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page, sync_playwright

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
# Any other one: RECAFFE_CHROMIUM=/path/to/chrome make browser
SETTING = "RECAFFE_CHROMIUM"


@pytest.fixture(scope="session")
def chromium() -> str:
    """The program's path."""
    if named := os.environ.get(SETTING):
        if not os.access(named, os.X_OK):
            pytest.fail(f"{SETTING} is {named!r}, which is no program.", pytrace=False)
        return named
    found = next(filter(None, map(shutil.which, NAMES)), None)
    if not found:
        pytest.fail(
            f"The browser tests want Chromium, and none of {', '.join(NAMES)} is on the PATH. Install it "
            f"(Debian: apt-get install chromium), or name it: {SETTING}=/path/to/chromium make browser.",
            pytrace=False,
        )
    return found


@pytest.fixture(scope="session")
def browser(chromium: str) -> Iterator[Browser]:
    """One browser for all tests."""
    # Root has no sandbox, and containers have a small /dev/shm.
    sandbox = ["--no-sandbox"] if os.geteuid() == 0 else []
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(
            executable_path=chromium, args=[*sandbox, "--disable-dev-shm-usage"]
        )
        yield started
        started.close()


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """An empty page with a profile of its own. An error in its console or its code fails the test at its end."""
    context = browser.new_context(viewport={"width": 1440, "height": 900})
    made = context.new_page()
    errors = watch(made)
    yield made
    context.close()
    assert not errors


def watch(page: Page) -> list[str]:
    """A list that gets the page's errors from now on."""
    errors: list[str] = []

    def heard(message: ConsoleMessage) -> None:
        if message.type == "error":
            errors.append(message.text)

    page.on("console", heard)
    page.on("pageerror", lambda error: errors.append(str(error)))
    return errors
