"""The report: one HTML file that needs nothing else, from the facts that were collected."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape
from markupsafe import Markup

from recaffe.report import collect, sections
from recaffe.report.album import Album

# The theme is chosen before anything is drawn, the rest when all is there.
EARLY, LATE = ("theme.js",), ("tables.js", "pictures.js", "matrix.js")


def render(facts: dict[str, Any], order: Sequence[Any] = sections.ORDER) -> str:
    """The HTML text of these sections. File and class names are escaped; figures are inline SVG."""
    album = Album(Path(facts["lists"]["root"]), facts["config"]["scan"])
    environment = _environment(album)
    shown = []
    data: dict[str, Any] = {}
    for section in order:
        view = section.view(facts, album)
        if view is None:
            continue
        name = section.__name__.rpartition(".")[2]
        body = environment.get_template(f"parts/{name}.html.j2").render(**facts, **view)
        shown.append({"name": name, "title": section.TITLE, "body": Markup(body)})
        data |= {"matrix": view["matrix"]} if "matrix" in view else {}
    early, late = _code(EARLY), _code(LATE)
    return environment.get_template("template.html.j2").render(
        title=facts["title"],
        sections=shown,
        style=Markup(_code(("style.css",))),
        early=Markup(early),
        late=Markup(late),
        # Only this code runs in the page, whatever a name may hold.
        allowed=" ".join(f"'{_hash(code)}'" for code in (early, late)),
        data=_json({**data, "pictures": album.rest()}),
    )


def _environment(album: Album) -> Environment:
    environment = Environment(
        loader=PackageLoader("recaffe.report", "."),
        autoescape=select_autoescape(default=True, default_for_string=True),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["million"] = lambda n: f"{n / 1e6:,.2f} M"
    environment.filters["mib"] = lambda n: f"{n / 2**20:,.0f} MiB"
    environment.filters["percent"] = lambda share: f"{100 * share:.1f} %"
    environment.filters["few"] = few
    environment.globals["picture"] = album.show
    environment.globals["accuracy"] = collect.accuracy
    return environment


def few(names: Sequence[str], most: int = 3) -> str:
    """The names, or the first of them and how many more there are."""
    rest = len(names) - most
    return ", ".join(names) if rest <= 0 else f"{', '.join(names[:most])} and {rest} more"


def _code(names: tuple[str, ...]) -> str:
    folder = files("recaffe.report") / "page"
    return "".join((folder / name).read_text(encoding="utf-8") for name in names)


def _hash(code: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(code.encode()).digest()).decode()}"


def _json(value: Any) -> Markup:
    """JSON for a script element, which no text in it can end."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return Markup(text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e"))
