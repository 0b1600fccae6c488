"""A model's folder, read and checked before anything is computed with it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from recaffe.engines.base import PredictJob
from recaffe.errors import DataError
from recaffe.files import sha256
from recaffe.model import FORMAT, LABELS, MEAN, NET, NOTE, PARTS, RECORD, WEIGHTS


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
    note = _read_note(folder / NOTE)
    for name in PARTS:
        if not (folder / name).is_file():
            raise DataError(f"{folder / name} is missing. Copy the whole folder again.")
        if sha256(folder / name) != note["files"][name]:
            raise DataError(
                f"{folder / name} is damaged, or another one: {NOTE} has another digest. Copy the whole "
                "folder again from where it was made."
            )
    return Model(folder, note, (folder / LABELS).read_text(encoding="utf-8").splitlines())


def _read_note(path: Path) -> dict[str, Any]:
    try:
        note: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        number = note["format"]
        if isinstance(number, int) and number > FORMAT:
            raise DataError(
                f"{path} is of format {number}, and this recaffe reads {FORMAT}: a later one made it. "
                "Use that one."
            )
        _check(note)
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"{path} isn't as recaffe writes it ({type(error).__name__}: {error}). Copy the whole folder "
            "again from where it was made."
        ) from error
    return note


def _check(note: dict[str, Any]) -> None:
    """Raises `ValueError` or `KeyError` unless all that is used is there, of the right kind."""
    rules = note["preprocessing"]
    record = {key: rules["record"][key] for key in RECORD}
    wanted: list[tuple[Any, type | tuple[type, ...]]] = [
        (note["batch_size"], int), (rules["max_pixels"], int), (rules["crop_size"], int),
        (rules["scale"], (int, float)), (rules["background"], str), (record["width"], int),
        (record["height"], int), (record["gray"], bool),
    ]  # fmt: skip
    for value, kind in wanted:
        if not isinstance(value, kind):
            raise ValueError(f"{value!r} where another kind of value belongs")
    numbers = isinstance(rules["mean"], list) and all(
        isinstance(v, int | float) for v in rules["mean"]
    )
    if rules["mean"] not in ("file", "none") and not numbers:
        raise ValueError(f"mean {rules['mean']!r}")
    if record["mode"] not in ("warp", "crop", "fill", "half_crop"):
        raise ValueError(f"mode {record['mode']!r}")
    if record["encoded"] not in ("none", "jpg", "png"):
        raise ValueError(f"encoded {record['encoded']!r}")
    if min(note["batch_size"], record["width"], record["height"], rules["max_pixels"]) < 1:
        raise ValueError("a size that is no size")
    if not isinstance(note["files"], dict) or not set(note["files"]) >= set(PARTS):
        raise ValueError(f"no digests of {', '.join(PARTS)}")
