"""README.md of a model's folder: what it is, what it was trained on, how good it is, how to use it."""

from __future__ import annotations

import re
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from recaffe.augment import Augment

FEW = 30  # test pictures of a class under which its figures say little


def render(note: dict[str, Any], words: dict[str, Any]) -> str:
    """The Markdown of a model.json; `words` are the config's `report`. Names can't become markup."""
    environment = Environment(
        loader=PackageLoader("recaffe.model", "."),
        autoescape=False,  # it is Markdown: `plain` escapes each name
        undefined=StrictUndefined,
        trim_blocks=True,
        keep_trailing_newline=True,
        lstrip_blocks=True,
    )
    environment.filters["plain"] = plain
    environment.filters["share"] = lambda x: f"{x + 0:.3f}"  # + 0: no -0.000
    return environment.get_template("card.md.j2").render(
        m=note,
        rules=note["preprocessing"],
        metrics=note["metrics"],
        augment=str(Augment.of(note["training"].get("augment"))),
        description=words["description"].strip(),
        note=words["note"].strip(),
        few=[c["name"] for c in note["metrics"]["classes"] if c["support"] < FEW],
        few_limit=FEW,
    )


def plain(text: str) -> str:
    """A text that Markdown shows as it is, in one line."""
    line = re.sub(r"([\\`*_\[\]<>|~&])", r"\\\1", " ".join(str(text).split()))
    return re.sub(r"^([#+=-])", r"\\\1", line)
