"""The commented config: choices and their reasons as YAML, checked before it is written."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import yaml

from recaffe import config
from recaffe.errors import ConfigError, DataError
from recaffe.files import write_text
from recaffe.init.choose import Choice

_PLAIN = re.compile(r"[A-Za-z0-9_./][A-Za-z0-9_./-]*")
_SECTIONS = {
    "split": "Shares of the pictures, where they don't say themselves which set they are in.",
    "lmdb": "How pictures become records.",
    "train": "What all runs have in common; a row of `runs` may set any of these for itself.",
}


def refuse_existing(out: Path, force: bool) -> None:
    """Raises `ConfigError` if the file is there and may not be replaced."""
    if out.is_dir():
        raise ConfigError(f"{out} is a folder. Name a file: -o {out / 'config.yaml'}")
    if os.path.lexists(out) and not force:
        raise ConfigError(
            f"{out} is there already and stays as it is. Write another one (-o config/mine.yaml), or "
            "replace it: --force."
        )


def dataset_of(place: Path, out: Path) -> str:
    """A name of the data set: the config's own, or the pictures' where that is config.yaml."""
    named = place.resolve().stem if out.stem == "config" else out.stem
    name = re.sub(r"[^A-Za-z0-9_.-]+", "_", named).strip("_.-")
    return name or "mine"


def text_of(
    dataset: str, images: Mapping[str, Any], summary: Sequence[str], choices: Sequence[Choice]
) -> str:
    """The config's text. Raises `DataError` for paths that aren't UTF-8, or a text that isn't valid."""
    lines = [
        "# Written by `recaffe init`, with the reason beside each choice. Change what you like: every key",
        "# with its meaning and default is in config/config.yaml and config/config.schema.yaml.",
        "#",
        *(f"# {_one_line(said)}" for said in summary),
        "",
        "# Name of the picture set; its files go to results/DATASET/.",
        f"dataset: {_scalar(dataset)}",
        "",
        "# Where the pictures are.",
        *_images(images),
    ]
    for section, own in groupby(choices, key=lambda c: c.section):
        lines += ["", f"# {_SECTIONS[section]}", f"{section}:", *_rows(list(own))]
    lines += [
        "",
        "# One row a training run: a name, and where it differs from `train`. The report is about the first",
        "# and compares the others with it.",
        "runs:",
        "  finetune: {}",
        "  # scratch: {weights: none, base_lr: 0.004}   # what the published weights are worth",
        "  # seed2: {seed: 2}                           # how much is chance",
    ]
    text = "\n".join(lines) + "\n"
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise DataError(
            f"{images.get('path', images)!r} has letters that are not UTF-8. Rename the folder."
        ) from error
    config.complete(yaml.safe_load(text))
    return text


def write(out: Path, text: str) -> None:
    """Write it whole or not at all."""
    write_text(out, text)


def _images(images: Mapping[str, Any]) -> list[str]:
    if set(images) == {"path"}:
        return [f"images: {_scalar(images['path'])}"]
    lines = ["images:"]
    for key, value in images.items():
        if isinstance(value, Mapping):
            inside = ", ".join(f"{k}: {_scalar(v)}" for k, v in value.items())
            lines.append(f"  {key}: {{{inside}}}")
        else:
            lines.append(f"  {key}: {_scalar(value)}")
    return lines


def _rows(choices: Sequence[Choice]) -> list[str]:
    pairs = [f"  {c.key}: {_scalar(c.value)}" for c in choices]
    width = max(map(len, pairs))
    return [
        f"{pair:{width}}   # {_one_line(c.why)}" if c.why else pair
        for pair, c in zip(pairs, choices, strict=True)
    ]


def _scalar(value: Any) -> str:
    """A value as YAML; JSON's strings are YAML's, too."""
    if isinstance(value, str):
        plain = _PLAIN.fullmatch(value) and yaml.safe_load(value) == value
        return value if plain else json.dumps(value, ensure_ascii=False)
    return json.dumps(value)


def _one_line(text: str) -> str:
    """A text for a comment, whatever names are in it."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)
