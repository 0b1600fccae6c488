"""Each command of README.md and docs/ is run; where it can't be here, its parts are checked."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from recaffe.config import ROOT
from tests.docs import check, scratch
from tests.docs.pages import LANGUAGES, PLACES, REASONS, SHELL, Block, blocks, pages, prose, spans

PAGES = pages()
README = ROOT / "README.md"
TOP = {p.name for p in ROOT.iterdir() if p.is_dir() and not p.name.startswith(".")}
# What comes into being when commands are run.
MADE = ("results", "resources", "build", "pictures", "docker/kept", "docker/recaffe-")
OURS = re.compile(
    r"(?:\.venv/bin/)?(?:caffe [a-z]|(?:convert_imageset|make|recaffe|snakemake|python -m) \S)"
)


def each(page: Path) -> str:
    return page.name


@pytest.mark.parametrize("page", PAGES, ids=each)
def test_every_command_has_its_category(page: Path) -> None:
    """tests/docs/pages.py has them."""
    for block in blocks(page):
        assert block.language in LANGUAGES, f"{block.where}: say the language of the block"
        if block.language in SHELL:
            assert bool(block.place) != bool(block.reason), (
                f"{block.where}: above the block, say where its commands run, or why they don't"
            )
        assert block.place in ("", *PLACES), f"{block.where}: {block.place!r}"
        assert block.reason in ("", *REASONS), f"{block.where}: {block.reason!r}"


@pytest.mark.parametrize("page", PAGES, ids=each)
def test_commands_stand_in_fences(page: Path) -> None:
    """An indented block has no language, so nobody knows whether it is to be run."""
    assert not re.findall(r"\n\n {4,}\S.*", prose(page))


@pytest.mark.parametrize("page", PAGES, ids=each)
def test_programs_options_and_targets_are_there(page: Path) -> None:
    shell = [b for b in blocks(page) if b.language in SHELL]
    said = [
        f"{b.where}: {mistake}"
        for b in shell
        for line in b.commands()
        for mistake in check.mistakes(line)
    ]
    for span in filter(OURS.match, spans(page)):
        said += check.mistakes(re.sub(r"\\\||[\[\]…]|/", " ", span) if "[" in span else span)
    assert not said


@pytest.mark.parametrize("page", PAGES, ids=each)
def test_files_that_are_named_are_there(page: Path) -> None:
    named = [
        word
        for span in spans(page)
        if (word := span.split(":")[0]).split("/")[0] in TOP and "/" in word
    ]
    # Words in capitals stand for others.
    named = [word for word in named if re.fullmatch(r"(?!.*\b[A-Z]{3,}\b)[\w./*-]+", word)]
    missing = [
        word
        for word in named
        if not list(ROOT.glob(word.rstrip("/"))) and not word.startswith(MADE)
    ]
    assert not missing


@pytest.mark.parametrize(("front", "prefix"), [(README, "docs/"), (ROOT / "docs/index.md", "")])
def test_the_front_pages_lead_to_every_page(front: Path, prefix: str) -> None:
    linked = set(re.findall(r"\]\(([^)#]+)", front.read_text(encoding="utf-8")))
    assert {f"{prefix}{page.name}" for page in PAGES[1:]} - linked <= {f"{prefix}index.md"}


@pytest.fixture(scope="session")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return scratch.clone(tmp_path_factory.mktemp("fresh") / "recaffe")


@pytest.fixture(scope="session")
def trained(fresh: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the README's commands have been run, which fails if one of them does."""
    place = scratch.copy(fresh, tmp_path_factory.mktemp("trained") / "recaffe")
    for block in blocks(README):
        if block.place:
            scratch.perform(block, place)
    return place


def test_the_commands_of_the_readme_run(trained: Path) -> None:
    assert (trained / "results" / "pets" / "report.html").is_file()


@pytest.mark.parametrize(("section", "folder"), [("data/", "data"), ("RUN/", "finetune")])
def test_files_that_the_page_of_formats_lists_are_made(
    trained: Path, section: str, folder: str
) -> None:
    text = (ROOT / "docs" / "formats.md").read_text(encoding="utf-8")
    table = text.split(f"## {section}\n")[1].split("\n## ")[0]
    rows = [row.split("|") for row in table.splitlines() if row.startswith("| `")]
    # What only some settings make says so.
    names = [re.findall("`([^`]+)`", row[1]) for row in rows if not row[2].startswith(" with ")]
    assert len(names) > 8
    there = trained / "results" / "pets" / folder
    wanted = {name.replace("KEY", "*").rstrip("/") for row in names for name in row}
    assert {name for name in wanted if not list(there.glob(name))} == set()


def test_the_picture_of_the_rules_has_all_of_the_demonstrations(fresh: Path) -> None:
    """`make dag` draws it."""
    graph = subprocess.run(
        ["snakemake", "--rulegraph", "--configfile", "config/demo.yaml"],
        cwd=fresh, env=scratch.environment(fresh), capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    drawn = (ROOT / "docs" / "rulegraph.svg").read_text(encoding="utf-8")
    rules = set(re.findall(r'label = "(\w+)', graph))
    assert len(rules) > 10
    assert set(re.findall(r">(\w+)</text>", drawn)) == rules


def run_there(page: Path, place: str) -> list[Block]:
    return [block for block in blocks(page) if block.place == place]


@pytest.mark.parametrize("page", [p for p in PAGES[1:] if run_there(p, PLACES[0])], ids=each)
def test_commands_run_in_a_fresh_clone(page: Path, fresh: Path, tmp_path: Path) -> None:
    place = scratch.copy(fresh, tmp_path / "recaffe")
    for block in run_there(page, PLACES[0]):
        scratch.perform(block, place)


@pytest.mark.parametrize("page", [p for p in PAGES[1:] if run_there(p, PLACES[1])], ids=each)
def test_commands_run_on_results(page: Path, trained: Path, tmp_path: Path) -> None:
    place = scratch.copy(trained, tmp_path / "recaffe")
    for block in run_there(page, PLACES[1]):
        scratch.perform(block, place)
