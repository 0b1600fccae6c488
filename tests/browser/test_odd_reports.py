"""Reports with names that hold markup, with very many classes, and with less than everything."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Page, expect

from recaffe.evaluate import metrics
from recaffe.evaluate.answers import Answer
from recaffe.evaluate.predictions import Table
from recaffe.report import build, collect
from tests.browser import reports
from tests.browser.test_report import PAPER
from tests.small_results import build_results

HOSTILE = (
    "</script><script>window.hurt = 1</script>",
    "\"'><img src=x onerror='window.hurt = 2'>",
    "<!--<script>${window.hurt = 3}`\\u003c",
    "猫 – кот \u202e\N{GRINNING FACE}&amp;",
)
# Folders can't hold a slash; a table's labels can, as one of the many classes below.
AS_FOLDERS = sorted(name.replace("/", "∕") for name in HOSTILE)
PREFIX = "\"'><svg onload=window.hurt=4> & <!-- "
MANY, TESTED = 102, 6000


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("hostile")
    results = build_results(
        folder, AS_FOLDERS, PREFIX, reports.NET, 24, lmdb={"width": 16, "height": 16},
        train={"base_lr": 0.0005}, report={"heat_maps": 2, "description": HOSTILE[0], "note": HOSTILE[1]},
    )  # fmt: skip
    return results / "report.html"


def test_names_are_text_wherever_they_are_shown(page: Page, hostile: Path) -> None:
    page.on("dialog", lambda dialog: pytest.fail(f"{dialog.message}"))
    page.goto(hostile.as_uri())
    for details in page.locator("details").all():
        details.locator("summary").click()
    assert page.evaluate("window.hurt") is None
    assert page.locator("#matrix tbody th").all_inner_texts() == AS_FOLDERS
    assert page.locator(".note").first.inner_text() == HOSTILE[1]
    for cell in page.locator("#matrix td button").all():
        cell.click()
        title = page.locator("dialog h3").inner_text()
        assert any(title.startswith(f"{name}, called") for name in AS_FOLDERS)
        captions = page.locator("dialog figcaption").all_inner_texts()
        assert captions and all(PREFIX.strip() in caption for caption in captions)
        page.keyboard.press("Escape")
    assert page.evaluate("document.scripts.length") == 3
    assert page.evaluate("window.hurt") is None
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_no_code_but_the_reports_own_may_run(page: Page, hostile: Path, tmp_path: Path) -> None:
    text = hostile.read_text(encoding="utf-8")
    broken = tmp_path / "broken.html"
    broken.write_text(
        text.replace("<h1>", "<script>window.hurt = 5</script><h1>"), encoding="utf-8"
    )
    heard: list[str] = []
    other = page.context.new_page()  # whose console isn't watched: the refusal is an error there
    other.on("console", lambda message: heard.append(message.text))
    other.goto(broken.as_uri())
    assert other.evaluate("window.hurt") is None
    assert any("Content Security Policy" in x for x in heard)


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of a test of 6,000 pictures in 102 classes, with a third of them wrong."""
    folder = tmp_path_factory.mktemp("many")
    results = reports.rich(folder)
    config = json.loads((results / "first" / "provenance.json").read_text())["config"]
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        facts = collect.collect(
            results.relative_to(folder), config, {name: [] for name in config["runs"]}
        )
        text = build.render(_with_many(facts, folder / "pictures"))
    file = folder / "many.html"
    file.write_text(text, encoding="utf-8")
    return file


def _with_many(facts: dict[str, Any], pictures: Path) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    labels = np.arange(TESTED) % MANY
    scores = rng.dirichlet(np.full(MANY, 0.05), TESTED)
    right = rng.random(TESTED) < 2 / 3
    scores[right, labels[right]] += 1
    scores /= scores.sum(1, keepdims=True)
    names = [HOSTILE[0], *(f"class number {i}" for i in range(1, MANY))]
    paths = [f"many/{i}.jpg" for i in range(TESTED)]
    (pictures / "many").mkdir()
    noise = rng.integers(0, 255, (120, 160, 3), dtype=np.uint8)
    for i, path in enumerate(paths):
        Image.fromarray(np.roll(noise, divmod(i, 160), axis=(0, 1))).save(
            pictures / path, quality=60
        )
    table = Table(paths, labels, scores, names)
    two = np.argsort(-scores, axis=1)[:, :2]
    found = [
        Answer(path, int(labels[i]), int(a), int(b), *map(float, scores[i, [a, b, labels[i]]]))
        for i, (path, (a, b)) in enumerate(zip(paths, two, strict=True))
    ]
    counts = {"train": "40", "val": "10", "test": "59", "left_out": "0", "rejected": "0"}
    classes = [{"label": str(i), "name": name, **counts} for i, name in enumerate(names)]
    for run in facts["runs"].values():
        run.update(answers=found, metrics=metrics.compute(table))
    return {**facts, "labels": names, "classes": classes}


def test_a_hundred_classes_and_thousands_of_pictures_make_a_page_of_few_megabytes(
    page: Page, many: Path
) -> None:
    assert many.stat().st_size < 8e6
    page.set_viewport_size({"width": 390, "height": 800})
    page.goto(many.as_uri())
    assert page.locator("#matrix tbody tr").count() == MANY
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    cells = page.locator("#matrix td button")
    assert cells.count() > 1000
    page.emulate_media(media="print")
    page.set_viewport_size({"width": PAPER, "height": 1000})
    assert page.evaluate("document.documentElement.scrollWidth") <= PAPER
    page.emulate_media(media="screen")
    page.locator("#matrix select").select_option("confused classes together")
    assert cells.count() > 1000
    assert HOSTILE[0] in page.locator("#matrix tbody th").all_inner_texts()
    hit = page.locator("#matrix td button.hit").first
    count = int(hit.inner_text())
    hit.click()
    note = page.locator("#behind-note")
    expect(note).to_contain_text(f"{count} pictures")
    expect(note).to_contain_text("Shown here: ")
    assert 1 <= page.locator("dialog figure").count() < count
    pictures = page.evaluate(
        """[...document.images].map((x) => x.src).concat(Object.values(recaffe.data.pictures))"""
    )
    assert len(pictures) <= 400 + 24 + 12 + 5 * 8 + 40 + 20


def test_a_picture_stands_in_the_page_once(many: Path) -> None:
    text = many.read_text(encoding="utf-8")
    codes = [part.split('"')[0] for part in text.split("data:image/jpeg;base64,")[1:]]
    assert len(codes) > 400
    assert len(codes) == len(set(codes))


def test_a_net_without_places_says_so(page: Page, tmp_path: Path) -> None:
    results = build_results(tmp_path, report={"heat_maps": 3, "cell_pictures": 0, "doubts": 0})
    page.goto((results / "report.html").as_uri())
    expect(page.locator("section#heat_maps")).to_contain_text("has no heat maps")
    page.locator("#matrix td button").first.click()
    expect(page.locator("#behind-note")).to_contain_text("Shown here: 0")
    assert page.locator("section#runs").count() == 0, "one run is compared with nothing"
    assert page.get_by_text("Least certain").count() == 0
