"""Messages that the pages quote as recaffe's or Snakemake's are in the code that says them."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest
import snakemake

from recaffe.config import ROOT
from tests.docs.pages import Block, blocks, pages

SOURCES = {
    "recaffe says": (ROOT / "recaffe", ROOT / "rules"),
    "snakemake says": (Path(snakemake.__file__).parent,),
}
QUOTED = [b for page in pages() for b in blocks(page) if b.note in SOURCES]
assert QUOTED


@cache
def said(who: str) -> str:
    """All texts of the code, a line each, `…` for what is filled in; and its classes' names."""
    texts = []
    for folder in SOURCES[who]:
        for file in folder.rglob("*.py"):
            tree = ast.parse(file.read_text(encoding="utf-8"))
            texts += [text for node in ast.walk(tree) for text in texts_of(node)]
        texts += [file.read_text(encoding="utf-8") for file in folder.glob("*.smk")]
    return "\n".join(texts)


def texts_of(node: ast.AST) -> list[str]:
    if isinstance(node, ast.ClassDef):
        return [node.name]
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return [node.value]
    if isinstance(node, ast.JoinedStr):
        parts = [p.value if isinstance(p, ast.Constant) else "…" for p in node.values]
        return ["".join(map(str, parts))]
    return []


@pytest.mark.parametrize("block", QUOTED, ids=lambda block: block.where)
def test_a_quoted_message_is_in_the_code(block: Block) -> None:
    for line in block.text.splitlines():
        assert in_the_code(line, block.note), f"{block.where}: nobody says {line!r}"


def in_the_code(line: str, who: str) -> bool:
    # What stands for a value may be another text of the code, and a line in a page's quote is one.
    parts = [re.escape(part) for part in line.removesuffix(":").split("…")]
    return re.search("[^\n]*?".join(parts), said(who)) is not None


def test_a_message_that_nobody_says_is_seen() -> None:
    assert not in_the_code("images: there is no …. Write the path to the config.", "recaffe says")
