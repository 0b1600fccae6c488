"""A model's folder, read and checked before anything is computed with it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema

from recaffe import config as configs
from recaffe.engines.base import PredictJob
from recaffe.errors import DataError
from recaffe.files import sha256
from recaffe.model import FORMAT, LABELS, MEAN, NET, NOTE, PARTS, RECORD, RECORD_LATER, WEIGHTS


@dataclass(frozen=True)
class Model:
    """`note` is its model.json, `labels` the names of the classes in the order of the net's scores."""

    folder: Path
    note: dict[str, Any]
    labels: list[str]

    @property
    def rules(self) -> dict[str, Any]:
        """How a picture becomes a record: `background`, `max_pixels`, `record` (the config's `lmdb`)."""
        rules: dict[str, Any] = self.note["preprocessing"]
        return rules

    @property
    def record_shape(self) -> tuple[int, int, int]:
        """C×H×W before the crop."""
        record = self.rules["record"]
        return 1 if record["gray"] else 3, record["height"], record["width"]

    def job(self, batch_size: int = 0, threads: int = 0, device: str = "auto") -> PredictJob:
        """What the built-in engine needs to score pictures; `batch_size` 0 is that of the test."""
        mean = self.rules["mean"]
        return PredictJob(
            deploy=self.folder / NET,
            weights=self.folder / WEIGHTS,
            crop_size=self.rules["crop_size"],
            scale=self.rules["scale"],
            mean_file=self.folder / MEAN if mean == "file" else None,
            mean_values=tuple(mean) if isinstance(mean, list) else (),
            batch_size=batch_size or self.note["batch_size"],
            crops=self.rules.get("crops", 1),
            threads=threads,
            device=device,
        )


def read(folder: Path) -> Model:
    """The model in a folder, or in `model` in it (as in a run's).

    Raises `DataError` where there is none, where it is of a later recaffe, or where a file isn't the
    one that the model was tested with.
    """
    if not folder.is_dir():
        what = "is a file" if folder.exists() else "doesn't exist"
        raise DataError(
            f"{folder} {what}. Give a model's folder, such as results/DATASET/RUN/model."
        )
    if not (folder / NOTE).is_file():
        if not (folder / "model" / NOTE).is_file():
            raise DataError(
                f"{folder} holds no model: there is no {NOTE} in it. The workflow makes one in "
                "results/DATASET/RUN/model."
            )
        folder = folder / "model"
    note = read_note(folder / NOTE)
    for name in PARTS:
        if not (folder / name).is_file():
            raise DataError(f"{folder / name} is missing. Copy the whole folder again.")
        if sha256(folder / name) != note["files"][name]:
            raise DataError(
                f"{folder / name} is damaged, or another one: {NOTE} has another digest. Copy the whole "
                "folder again from where it was made."
            )
    return Model(folder, note, (folder / LABELS).read_text(encoding="utf-8").splitlines())


def read_note(path: Path) -> dict[str, Any]:
    """A model.json whose every value that is used is there and of the right kind; else `DataError`."""
    try:
        note = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise _broken(path, str(error)) from error
    number = note.get("format") if isinstance(note, dict) else None
    if isinstance(number, int) and number > FORMAT:
        raise DataError(
            f"{path} is of format {number}, and this recaffe reads {FORMAT}: a later one made it. Use "
            "that one."
        )
    wrong = jsonschema.exceptions.best_match(_validator().iter_errors(note))
    if wrong is not None:
        where = ".".join(map(str, wrong.absolute_path)) or "the top level"
        raise _broken(path, f"{where}: {wrong.message[:200]}")
    known: dict[str, Any] = note
    return known


def _broken(path: Path, why: str) -> DataError:
    return DataError(
        f"{path} isn't as recaffe writes it ({why}). Copy the whole folder again from where it was made."
    )


@cache
def _validator() -> jsonschema.Draft202012Validator:
    """What is used of a model.json: what the config allows for the same settings."""
    keys = configs.schema()["properties"]
    of = {name: keys[name]["properties"] for name in ("lmdb", "scan", "train")}
    number = {"type": "number", "minimum": -65536, "maximum": 65536}
    rules = {
        "record": {
            **_all_of({key: of["lmdb"][key] for key in (*RECORD, *RECORD_LATER)}),
            "required": list(RECORD),
        },
        "background": of["scan"]["background"],
        "max_pixels": of["scan"]["max_pixels"],
        "crop_size": {**of["train"]["crop_size"], "maximum": 65536},
        "mean": {"anyOf": [{"enum": ["file", "none"]}, {"type": "array", "items": number, "maxItems": 3}]},
        "scale": number,
    }  # fmt: skip
    # Left out of a model that was tested with one crop.
    several = {"properties": {"crops": of["train"]["test_crops"]}}
    return jsonschema.Draft202012Validator(
        _all_of(
            {
                "format": {"const": FORMAT},
                "preprocessing": {"allOf": [_all_of(rules), several]},
                "batch_size": {**of["train"]["test_batch_size"], "maximum": 65536},
                "files": _all_of({name: {"type": "string"} for name in PARTS}),
            }
        )
    )


def _all_of(properties: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "required": list(properties), "properties": properties}
