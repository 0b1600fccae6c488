"""The page of a cross validation: its numbers, its pictures, and the way to each fold's own report."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from recaffe import folds
from recaffe.report import crossval
from tests.browser.reports import NET, RUNS
from tests.small_results import build_results

NAMES = folds.names(2)


@pytest.fixture(scope="module")
def crossed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two folds with pictures of their own, so that none is tested twice."""
    folder = tmp_path_factory.mktemp("crossed")
    whole, aside = folder / "results" / "whole", folder / "aside"
    for fold in NAMES:
        built = build_results(folder, ("cat", "dog", "emu"), fold, NET, runs=RUNS)
        whole.mkdir(exist_ok=True)
        built.rename(whole / fold)
        shutil.copytree(folder / "pictures", aside, dirs_exist_ok=True)
        shutil.rmtree(folder / "pictures")
    aside.rename(folder / "pictures")
    (whole / "data").mkdir()
    for name in folds.SHARED:
        shutil.copy(whole / NAMES[0] / "data" / name, whole / "data" / name)
    config = json.loads((whole / NAMES[0] / "first" / "provenance.json").read_text())["config"]
    with pytest.MonkeyPatch.context() as here:
        here.chdir(folder)
        crossval.write(Path("results/whole"), config, NAMES)
    return whole


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 820, 1440])
def test_it_fits_and_each_picture_shows(page: Page, crossed: Path, width: int, scheme: str) -> None:
    page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
    page.set_viewport_size({"width": width, "height": 800})
    page.goto((crossed / "report.html").as_uri())
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert not page.evaluate(
        "[...document.images].filter((x) => x.complete && !x.naturalWidth).length"
    )
    expect(page.locator(".gone")).to_have_count(0)


def test_the_numbers_are_those_of_folds_json(page: Page, crossed: Path) -> None:
    page.goto((crossed / "report.html").as_uri())
    found = json.loads((crossed / "folds.json").read_text(encoding="utf-8"))
    first = found["runs"]["first"]
    headline = page.locator("#folds .headline").inner_text()
    assert f"{100 * first['top1']:.1f} % of all {first['n']} pictures right" in headline
    cells = page.locator("#matrix td").all_inner_texts()
    assert sum(int(text) for text in cells if text.strip().isdigit()) == first["n"]
    row = page.locator("#folds tbody tr", has_text="slow_seed2").last
    for fold in found["runs"]["slow_seed2"]["folds"]:
        assert f"{fold['top1']:.3f}" in row.inner_text()
    expect(page.locator("#runs")).to_contain_text("Over seeds")


def test_each_fold_leads_to_its_own_report(page: Page, crossed: Path) -> None:
    for fold in NAMES:
        page.goto((crossed / "report.html").as_uri())
        page.locator("#folds").get_by_role("link", name=fold).click()
        expect(page).to_have_url((crossed / fold / "report.html").as_uri())
        expect(page.locator("#training")).to_be_visible()
