"""The report as a reader's browser shows it: at three widths, light and dark, by mouse and by keyboard."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import Browser, Locator, Page, Request, expect

from tests.browser import reports

WIDTHS = (390, 820, 1440)
PAPER = 718  # pixels of A4 without its margins
SECTIONS = (
    "result", "runs", "data", "net", "training", "classes", "pictures", "heat_maps", "calibration",
    "speed", "provenance",
)  # fmt: skip


@pytest.fixture(scope="module")
def rich(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return reports.rich(tmp_path_factory.mktemp("rich")) / "report.html"


@pytest.fixture(params=["rich", "demonstration"])
def report(request: pytest.FixtureRequest, rich: Path) -> Path:
    """A small report with all sections, and that of the demonstration where `make run` has made it."""
    if request.param == "rich":
        return rich
    if not reports.DEMONSTRATION.is_file():
        pytest.skip(f"there is no {reports.DEMONSTRATION}; `make run` makes it")
    return reports.DEMONSTRATION


def visit(page: Page, file: Path) -> list[str]:
    """Open a report; returns the addresses that it asks for, a list that grows."""
    asked: list[str] = []

    def heard(request: Request) -> None:
        if not request.url.startswith("data:"):
            asked.append(request.url)

    page.on("request", heard)
    page.goto(file.as_uri())
    return asked


def rows_of(table: Locator, column: int) -> list[str]:
    return [x.strip() for x in table.locator(f"tbody tr > :nth-child({column})").all_inner_texts()]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", WIDTHS)
def test_nothing_is_wider_than_the_window_and_every_picture_shows(
    page: Page, report: Path, width: int, scheme: str
) -> None:
    page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
    page.set_viewport_size({"width": width, "height": 800})
    asked = visit(page, report)
    assert page.evaluate("document.documentElement.dataset.theme") == scheme
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


def test_every_section_is_there_and_the_head_leads_to_each(page: Page, rich: Path) -> None:
    visit(page, rich)
    for name in SECTIONS:
        page.locator(f'nav a[href="#{name}"]').click()
        expect(page.locator(f"section#{name} h2")).to_be_in_viewport()
    assert page.locator("main section").count() == len(SECTIONS)
    ids = page.evaluate("[...document.querySelectorAll('[id]')].map((x) => x.id)")
    assert len(ids) == len(set(ids)), "no id twice, figures' included"


def test_each_column_sorts_both_ways(page: Page, report: Path) -> None:
    visit(page, report)
    for details in page.locator("details").all():
        details.locator("summary").click()
    tables = page.locator("table.sortable").all()
    assert len(tables) >= 6
    for table in tables:
        for head in table.locator("thead th:has(button)").all():
            column = head.evaluate("(th) => th.cellIndex") + 1
            before = rows_of(table, column)
            head.locator("button").click()
            first = head.get_attribute("aria-sort")
            once = rows_of(table, column)
            head.locator("button").click()
            twice = rows_of(table, column)
            assert {first, head.get_attribute("aria-sort")} == {"ascending", "descending"}
            assert sorted(before) == sorted(once) == sorted(twice)
            assert [x for x in once if x] == [x for x in reversed(twice) if x] or len(
                set(once)
            ) < len(once)
            assert table.locator("[aria-sort]").count() == 1


def test_numbers_sort_as_numbers_and_words_as_words(page: Page, rich: Path) -> None:
    visit(page, rich)
    table = page.locator("section#classes table.sortable").last
    table.get_by_role("button", name="recall").click()
    recalls = list(map(float, rows_of(table, 4)))
    assert recalls == sorted(recalls, reverse=True)
    assert len(set(recalls)) > 2
    table.get_by_role("button", name="class").click()
    assert rows_of(table, 1) == list(reports.CLASSES)
    table.get_by_role("button", name="class").click()
    assert rows_of(table, 1) == list(reversed(reports.CLASSES))


def test_a_cell_opens_the_pictures_behind_it(page: Page, report: Path) -> None:
    visit(page, report)
    dialog = page.locator("dialog")
    cells = page.locator("#matrix td button").all()
    assert len(cells) > 4
    for cell in cells:
        label, count = cell.get_attribute("aria-label") or "", int(cell.inner_text())
        cell.click()
        expect(dialog).to_be_visible()
        expect(dialog.locator("h3")).to_have_text(label.rpartition(": ")[0].replace(*_same(label)))
        shown = dialog.locator("figure").count()
        assert 1 <= shown <= count
        note = dialog.locator("#behind-note").inner_text()
        assert note.startswith(f"{count} picture")
        assert ("Shown here" in note) == (shown < count)
        assert dialog.locator("img").evaluate_all("(all) => all.every((x) => x.naturalWidth > 0)")
        page.keyboard.press("Escape")
        expect(dialog).to_be_hidden()
        expect(cell).to_be_focused()


def _same(label: str) -> tuple[str, str]:
    """A cell of the diagonal is headed `cat, called so`."""
    true, _, called = label.rpartition(": ")[0].partition(", called ")
    return (f"called {called}", "called so") if true == called else ("", "")


def test_a_dialog_closes_by_its_button_and_by_a_click_beside_it(page: Page, rich: Path) -> None:
    visit(page, rich)
    dialog, cell = page.locator("dialog"), page.locator("#matrix td button").first
    cell.click()
    dialog.get_by_role("button", name="Close").click()
    expect(dialog).to_be_hidden()
    cell.click()
    expect(dialog).to_be_visible()
    page.mouse.click(5, 400)
    expect(dialog).to_be_hidden()


def test_the_matrix_can_be_ordered_in_each_way(page: Page, rich: Path) -> None:
    visit(page, rich)
    names = page.locator("#matrix tbody th")
    support = rows_of(page.locator("section#classes table.sortable").last, 2)
    n = dict(zip(reports.CLASSES, map(int, support), strict=True))
    choose = page.locator("#matrix select")
    seen = {}
    for way in choose.locator("option").all_inner_texts():
        choose.select_option(way)
        seen[way] = names.all_inner_texts()
        assert sorted(seen[way]) == sorted(reports.CLASSES)
        heads = page.locator("#matrix thead th span").all_inner_texts()
        assert heads == seen[way], "rows and columns in the same order"
        diagonal = page.locator("#matrix td button.hit").evaluate_all(
            "(all) => all.every((x) => x.parentElement.cellIndex === x.closest('tr').rowIndex)"
        )
        assert diagonal
    assert seen["label"] == list(reports.CLASSES)
    most = [n[name] for name in seen["test pictures, most first"]]
    assert most == sorted(most, reverse=True)
    place = seen["confused classes together"].index
    assert abs(place("apple") - place("dune")) == 1
    assert len({tuple(order) for order in seen.values()}) >= 3


def test_the_keyboard_alone_is_enough(page: Page, rich: Path) -> None:
    visit(page, rich)
    page.locator("#matrix select").focus()
    page.keyboard.press("Tab")
    focused = page.locator("#matrix td button:focus")
    expect(focused).to_have_count(1)
    start = focused.get_attribute("aria-label")
    for key in ("ArrowDown", "ArrowRight", "ArrowUp", "ArrowLeft", "ArrowDown"):
        page.keyboard.press(key)
        expect(focused).to_have_count(1)
    assert focused.get_attribute("aria-label") != start
    label = focused.get_attribute("aria-label")
    page.keyboard.press("Enter")
    expect(page.locator("dialog")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.locator("dialog")).to_be_hidden()
    assert focused.get_attribute("aria-label") == label
    page.keyboard.press("Tab")
    expect(page.locator("#matrix td button:focus")).to_have_count(0)
    head = page.locator("section#classes thead button").last
    head.focus()
    page.keyboard.press("Enter")
    expect(head.locator("..")).to_have_attribute("aria-sort", "descending")
    page.locator("#theme").focus()
    page.keyboard.press("Enter")
    assert page.evaluate("document.documentElement.dataset.theme") == "dark"


def test_the_chosen_theme_stays(page: Page, rich: Path) -> None:
    visit(page, rich)
    background = "getComputedStyle(document.body).backgroundColor"
    light = page.evaluate(background)
    page.locator("#theme").click()
    dark = page.evaluate(background)
    assert light != dark
    page.reload()
    assert page.evaluate(background) == dark
    page.locator("#theme").click()
    page.emulate_media(color_scheme="dark")
    assert page.evaluate(background) == light, "a choice counts more than the machine's setting"


def test_on_paper_it_is_light_and_loses_nothing(page: Page, report: Path) -> None:
    page.emulate_media(color_scheme="dark")
    visit(page, report)
    text = page.locator("main").inner_text()
    page.emulate_media(media="print", color_scheme="dark")
    page.set_viewport_size({"width": PAPER, "height": 1000})
    assert page.evaluate("document.documentElement.scrollWidth") <= PAPER, "paper doesn't scroll"
    expect(page.locator("body")).to_have_css("background-color", "rgb(255, 255, 255)")
    expect(page.locator("header")).to_be_hidden()
    for word in ("test pictures right", "Most often confused", "Provenance"):
        assert word in text
        expect(page.locator("main").get_by_text(word).first).to_be_visible()
    page.emulate_media(media="screen")
    pdf = page.pdf(format="A4", print_background=False)
    assert pdf.startswith(b"%PDF")
    assert pdf.count(b"/Type /Page\n") + pdf.count(b"/Type /Page ") >= 3


def test_without_scripts_the_figures_and_pictures_are_still_there(
    browser: Browser, report: Path
) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(report.as_uri())
    expect(page.locator("#matrix")).to_contain_text("doesn't run here")
    expect(page.locator("section#result .big")).to_be_visible()
    assert page.locator("svg.plot").count() >= 5
    assert page.locator('img[src^="data:image/jpeg"]').count() > 30
    context.close()
