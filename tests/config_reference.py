"""docs/config.md, from the schema and the rules: `python -m tests.config_reference` writes it anew."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator
from functools import cache
from typing import Any

from recaffe import config
from recaffe.config import ROOT
from recaffe.files import write_text

PAGE = ROOT / "docs" / "config.md"
HEAD = """# Config reference

Every key of a config file, from [config/config.schema.yaml](../config/config.schema.yaml), which recaffe checks a config against
and takes the defaults from. (This page is made of it by `python -m tests.config_reference`; don't edit it.) Three keys must be there:
`dataset`, `images` and `runs`. An unknown key, or a value that isn't allowed, is an error that names it and says what is.
[config/config.yaml](../config/config.yaml) is a file to start from.

The last column says what a change of the key makes again: the stage that looks at it first, and whatever is made from that
stage's results. In this order the stages are scan, split, lmdb, mean, patch, solver, train, predict, metrics, model, report. Where
all that a training reads is as before, it ends at once with what it had; so do the LMDBs with their records. The report is made anew
after each change. [What runs again, and why](reruns.md) has more.
"""
COLUMNS = "| Key | What it is | Allowed | Default | A change makes again |\n| --- | --- | --- | --- | --- |"
# The tuples of rules/keys.smk that say which keys of a run a stage looks at, in the order of the stages.
STAGES = ("PATCH", "SOLVER", "TRAIN", "PREDICT", "MODEL", "LR_RANGE")
REPORT = "the report alone"
# For the other sections, by their longest prefix.
AGAIN = {
    "dataset": "all, in a folder of its own",
    "title": "the report, and the model's card",
    "results": "all, unless the folder was moved along",
    "resources": "what is fetched",
    "images": "scan and what follows, where pictures or labels differ",
    "scan": "scan and what follows",
    "split": "split and what follows",
    "lmdb": "lmdb and what follows",
    "lmdb.shards": "lmdb, with the same records",
    "lmdb.scratch": "nothing",
    "lmdb.fast": "scan and what follows",
    **{
        f"lmdb.{key}": "lmdb and what follows; with lmdb.fast scan as well"
        for key in ("width", "height", "mode")
    },
    "train.test_crops": "predict and what follows",
    "train.lr_range": "lr_range, where there was none; the report",
    **{
        f"train.lr_range_{key}": "lr_range; with base_lr auto also solver and what follows"
        for key in ("min", "max", "iters")
    },
    "train.weights_sha256": "the fetch of the weights",
    "runs": "the rules of a run that is new",
    "max_runs": "nothing",
    "baselines": "linear",
    "model.onnx": "the ONNX file, and the report",
    "report": REPORT,
    "report.description": "the report, and the model's card",
    "report.heat_maps": "heat_maps",
    "report.note": "the report, and the model's card",
}


def page() -> str:
    """The whole page as Markdown."""
    schema = config.schema()
    parts = [HEAD, "## At the top\n", COLUMNS]
    sections = {}
    for key, part in schema["properties"].items():
        if "properties" in part:
            sections[key] = part
        if key in schema["required"] or "properties" not in part:
            parts.append(_row(key, part, key in schema["required"]))
    for key, part in (*sections.items(), ("runs", _own_keys_of_runs(schema["properties"]))):
        rows = [_row(name, sub, required) for name, sub, required in _leaves(part, f"{key}.")]
        parts += [f"\n## {key}\n", f"{_text(part)}\n", COLUMNS, *rows] if rows else []
    return "\n".join(parts) + "\n"


@cache
def stages_of() -> dict[str, list[str]]:
    """The keys of a run that each stage looks at, as rules/keys.smk has them."""
    text = (ROOT / "rules" / "keys.smk").read_text(encoding="utf-8")
    found = {
        name: list(ast.literal_eval(value))
        for name, value in re.findall(r"^([A-Z_]+)_KEYS = (\([^()]*\))$", text, re.M)
    }
    if set(found) != set(STAGES):
        raise AssertionError(f"rules/keys.smk has keys for {sorted(found)}, this page for {STAGES}")
    return found


def _own_keys_of_runs(keys: dict[str, Any]) -> dict[str, Any]:
    """What a row of `runs` may have beside the keys of `train`."""
    row = keys["runs"]["additionalProperties"].get("properties", {})
    own = {name: part for name, part in row.items() if name not in keys["train"]["properties"]}
    text = "What a row may have beside the keys of `train`. NAME stands for the row's name."
    # A sweep has the keys of `train` below it: they are explained already.
    flat = {
        f"NAME.{name}": {key: value for key, value in part.items() if key != "properties"}
        for name, part in own.items()
    }
    return {"description": text, "properties": flat}


def _leaves(part: dict[str, Any], path: str) -> Iterator[tuple[str, dict[str, Any], bool]]:
    for key, sub in part["properties"].items():
        yield f"{path}{key}", sub, key in part.get("required", ())
        if "properties" in sub:
            yield from _leaves(sub, f"{path}{key}.")


def _row(name: str, part: dict[str, Any], required: bool) -> str:
    default = "must be given" if required else _code(part["default"]) if "default" in part else ""
    default = "" if "properties" in part and not required else default
    cells = [f"`{name}`", _text(part), _allowed(part), default, _again(name)]
    return f"| {' | '.join(cells)} |"


def _text(part: dict[str, Any]) -> str:
    return part["description"].strip().replace("|", "\\|")


def _code(value: Any) -> str:
    """A value as a config has it."""
    text = value if isinstance(value, str) and value else json.dumps(value, ensure_ascii=False)
    return f"`{text}`".replace("|", "\\|")


def _allowed(part: dict[str, Any]) -> str:
    if "enum" in part:
        return ", ".join(_code(value) for value in part["enum"])
    kinds = part.get("type", "object")
    kinds = [kinds] if isinstance(kinds, str) else kinds
    said = [_kind(kind, part, alone=len(kinds) == 1) for kind in kinds]
    return " or ".join(said)


def _kind(kind: str, part: dict[str, Any], alone: bool) -> str:
    if kind in ("integer", "number"):
        return ("a whole number" if kind == "integer" else "a number") + _bounds(part)
    if kind == "string" and (
        words := re.fullmatch(r"\^\(?([a-z|]+)\)?\$", part.get("pattern", ""))
    ):
        return ", ".join(_code(word) for word in words[1].split("|"))
    if kind == "string" and alone and part.get("pattern", ".") != ".":
        return f"text that matches {_code(part['pattern'])}"
    if kind == "array":
        low, high, items = part.get("minItems"), part.get("maxItems"), part.get("items", {})
        count = f"{low} " if low and low == high else ""
        what = {"number": "numbers", "string": "names"}.get(str(items.get("type")), "items")
        return f"a list of {count}{what}{_bounds(items)}"
    return {"string": "text", "boolean": "`true`, `false`", "object": "a mapping"}[kind]


def _bounds(part: dict[str, Any]) -> str:
    low = [f"from {part['minimum']}"] if "minimum" in part else []
    low += [f"above {part['exclusiveMinimum']}"] if "exclusiveMinimum" in part else []
    high = [f"to {part['maximum']}"] if "maximum" in part else []
    high += [f"below {part['exclusiveMaximum']}"] if "exclusiveMaximum" in part else []
    return f" {' '.join(low + high)}" if low or high else ""


def _again(name: str) -> str:
    words = name.split(".")
    if words[0] == "train" and name not in AGAIN:
        key = words[1] if len(words) > 1 else ""
        keys = stages_of()
        for stage in STAGES:
            if key in keys[stage]:
                return f"{stage.lower()} and what follows"
        return REPORT if key else "the rules of the runs that it changes"
    for n in range(len(words), 0, -1):
        if (prefix := ".".join(words[:n])) in AGAIN:
            return AGAIN[prefix]
    raise KeyError(f"Say in AGAIN what a change of {name} makes again.")


if __name__ == "__main__":
    write_text(PAGE, page())
