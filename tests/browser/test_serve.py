"""The page of `recaffe serve` as somebody with a browser uses it."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Browser, Page, expect

from tests import small_models
from tests.browser.conftest import watch
from tests.served import form, png, started

WIDTHS = (390, 820, 1440)
DROP = """([files]) => {
    const data = new DataTransfer();
    for (const { name, text } of files) {
        data.items.add(new File([Uint8Array.from(atob(text), (x) => x.charCodeAt(0))], name));
    }
    for (const kind of ["dragenter", "dragover", "drop"]) {
        document.body.dispatchEvent(new DragEvent(kind, { dataTransfer: data, bubbles: true, cancelable: true }));
    }
}"""


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_models.build(tmp_path_factory.mktemp("serve"))


@pytest.fixture(scope="module")
def server(built: Path) -> Iterator[str]:
    model = built / "results" / "own" / "first" / "model"
    with started(model, "--max-mb", "1", "--rate", "0") as (_, address):
        yield address


@pytest.fixture
def picture(built: Path) -> Path:
    return Path(small_models.in_test_order(built)[0])


def drop(page: Page, *files: tuple[str, bytes]) -> None:
    """Let files fall on the page, as from a file manager."""
    packed = [{"name": name, "text": base64.b64encode(x).decode()} for name, x in files]
    page.evaluate(DROP, [packed])


def ready(page: Page, address: str) -> Page:
    page.goto(address)
    expect(page.locator("#about")).to_contain_text("3 classes")
    return page


def test_a_dropped_picture_gets_its_classes_with_bars(
    page: Page, server: str, picture: Path
) -> None:
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    ready(page, server)
    expect(page.get_by_role("heading", level=1)).to_have_text("own")
    drop(page, (picture.name, picture.read_bytes()))
    card = page.get_by_role("article")
    answer = httpx.post(f"{server}/api/predict", **form(picture)).json()["results"][0]
    expect(card.locator(".class")).to_have_text(answer["predicted"])
    expect(card.get_by_role("heading")).to_have_text(picture.name)
    expect(card.get_by_role("img", name=picture.name)).to_be_visible()
    rows = card.get_by_role("listitem")
    expect(rows).to_have_count(3)
    for i, row in enumerate(answer["top"]):
        expect(rows.nth(i).locator(".label")).to_have_text(row["class"])
        track, bar = (rows.nth(i).locator(x).bounding_box() for x in (".track", ".bar"))
        assert track and bar
        assert bar["width"] == pytest.approx(track["width"] * row["p"], abs=1)
    expect(page.get_by_role("status")).to_contain_text(f"{picture.name}: {answer['predicted']}")
    expect(card.get_by_text("unsure")).to_be_hidden()
    own = ("data:", "blob:", server)
    assert [x for x in asked if not x.startswith(own)] == []


def test_pictures_are_picked_several_at_once_and_cleared(
    page: Page, server: str, built: Path
) -> None:
    ready(page, server)
    paths = small_models.in_test_order(built)[:6]
    page.get_by_label("Choose pictures").set_input_files(paths)
    expect(page.get_by_role("status")).to_have_text("6 of 6 pictures classified")
    assert page.locator(".card .name").all_text_contents() == [Path(x).name for x in paths]
    page.get_by_role("button", name="Clear").click()
    expect(page.get_by_role("article")).to_have_count(0)
    expect(page.get_by_role("button", name="Clear")).to_be_hidden()
    expect(page.get_by_label("Choose pictures")).to_be_focused()


def test_the_heat_map_comes_and_goes(page: Page, server: str, picture: Path) -> None:
    ready(page, server)
    toggle = page.get_by_label("Show where the net looked")
    heat, plain = page.locator(".heat"), page.locator(".picture")
    drop(page, (picture.name, picture.read_bytes()))
    expect(page.locator(".class")).not_to_be_empty()
    expect(heat).to_be_hidden()
    toggle.check()
    expect(heat).to_be_visible()
    assert (heat.get_attribute("src") or "").startswith("data:image/png;base64,")
    expect(plain).to_be_hidden()
    assert heat.evaluate("image => image.decode().then(() => image.naturalWidth)") >= 320
    assert (heat.get_attribute("alt") or "").startswith("Where the net looked for ")
    toggle.uncheck()
    expect(heat).to_be_hidden()
    expect(plain).to_be_visible()
    toggle.check()
    drop(page, ("second.png", picture.read_bytes()))
    expect(heat).to_have_count(2)
    expect(heat.nth(1)).to_be_visible()


def test_the_threshold_marks_answers_as_unsure_at_once(
    page: Page, server: str, picture: Path
) -> None:
    ready(page, server)
    drop(page, (picture.name, picture.read_bytes()))
    badge, slider = page.locator(".badge"), page.get_by_label("Unsure below")
    expect(page.locator(".class")).not_to_be_empty()
    expect(badge).to_be_hidden()
    slider.focus()
    page.keyboard.press("End")
    expect(badge).to_be_visible()
    expect(page.locator("#shown")).to_have_text("100 %")
    page.keyboard.press("Home")
    expect(badge).to_be_hidden()


def test_a_bad_file_is_told_beside_the_good_ones(
    browser: Browser, server: str, picture: Path
) -> None:
    context = browser.new_context()
    page = context.new_page()
    errors = watch(page)
    ready(page, server)
    hostile = "<img src=x onerror=alert(1)>.png"
    drop(page, (hostile, b"no picture"), (picture.name, picture.read_bytes()))
    cards = page.get_by_role("article")
    expect(cards.nth(0).locator(".error")).to_have_text("not a picture that can be recognised")
    expect(cards.nth(0).locator(".name")).to_have_text(hostile)
    expect(cards.nth(1).locator(".class")).not_to_be_empty()
    expect(page.get_by_role("status")).to_have_text("1 of 2 pictures classified")
    drop(page, ("huge.png", b"\0" * (2**20 + 1)))
    expect(page.get_by_role("alert")).to_have_text(
        "huge.png: 1 MiB; this server takes up to 1 MiB."
    )
    expect(cards).to_have_count(2)
    # What the browser itself says of an answer that is no success.
    assert len(errors) == 1
    assert "422" in errors[0]
    context.close()


def test_a_server_that_has_gone_is_told(browser: Browser, built: Path, picture: Path) -> None:
    context = browser.new_context()
    page = context.new_page()
    with started(built / "results" / "own" / "first") as (program, address):
        ready(page, address)
        program.terminate()
        program.wait(60)
    drop(page, (picture.name, picture.read_bytes()))
    expect(page.locator(".card .error")).to_contain_text("The server doesn't answer")
    context.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", WIDTHS)
def test_nothing_is_wider_than_the_window(page: Page, server: str, width: int, scheme: str) -> None:
    page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
    page.set_viewport_size({"width": width, "height": 800})
    ready(page, server)
    assert page.locator("#drop").evaluate("drop => drop.scrollWidth <= drop.clientWidth")
    page.get_by_label("Show where the net looked").check()
    drop(page, ("wide.png", png(600, 60)), (f"{'long' * 30}.png", png(60, 600, 1)))
    expect(page.get_by_role("status")).to_have_text("2 of 2 pictures classified")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    ink, ground = page.evaluate(
        "['color', 'backgroundColor'].map((x) => getComputedStyle(document.body)[x])"
    )
    light = [sum(json.loads(x.replace("rgb(", "[").replace(")", "]"))) for x in (ink, ground)]
    assert (light[0] < light[1]) == (scheme == "light")
    page.goto(f"{server}/docs")
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_everything_is_reached_by_the_tab_key(page: Page, server: str, picture: Path) -> None:
    ready(page, server)
    drop(page, (picture.name, picture.read_bytes()))
    expect(page.get_by_role("button", name="Clear")).to_be_visible()
    reached = []
    for _ in range(4):
        page.keyboard.press("Tab")
        reached.append(page.evaluate("document.activeElement.id"))
    assert reached == ["files", "threshold", "heat", "clear"]


def test_the_description_of_the_api_is_a_page(page: Page, server: str) -> None:
    page.goto(f"{server}/docs")
    expect(page.get_by_role("heading", level=2)).to_have_text(
        ["GET /health", "GET /api/model", "POST /api/predict"]
    )
    page.get_by_text("openapi.json").last.click()
    expect(page.locator("details pre")).to_contain_text('"openapi"')
