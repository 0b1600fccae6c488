"""A training's job and its outcome as JSON: for the process or the container that does it."""

from __future__ import annotations

import json
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

import recaffe
from recaffe import errors, stages
from recaffe.augment import Augment
from recaffe.engines.base import TrainJob, TrainResult
from recaffe.errors import ConfigError, RecaffeError, TrainError
from recaffe.files import write_text

# What a job in a file was written by, where it matters that the reader is the same.
WRITER = "recaffe"
_PATHS = ("solver", "snapshots", "final", "log", "csv", "resume")


def version() -> str:
    """This recaffe: its release, and the version of the code that a training's numbers follow from."""
    return f"{recaffe.__version__} (training {stages.TRAIN})"


def to_json(job: TrainJob) -> str:
    """A job as text."""
    return json.dumps({WRITER: version(), **asdict(job)}, default=str, indent=2)


def from_json(text: str) -> TrainJob:
    """A job from its text; keys that are left out have their defaults.

    Raises `ConfigError` for a key that no job has, and for a job of another version of recaffe.
    """
    values = json.loads(text)
    if not isinstance(values, dict):
        raise ConfigError('A job is a JSON object: {"solver": …}.')
    writer = values.pop(WRITER, version())
    if writer != version():
        raise ConfigError(
            f"This job was written by recaffe {writer}, but it is recaffe {version()} that reads it. "
            "They must be the same: in a container, build the image anew from this clone (make images)."
        )
    known = {f.name for f in fields(TrainJob)}
    if unknown := sorted(set(values) - known):
        raise ConfigError(f"A job has no {unknown[0]!r}; it has {', '.join(sorted(known))}.")
    for name in _PATHS:
        if values.get(name) is not None:
            values[name] = Path(values[name])
    given = values.get("weights")
    if given is not None:
        values["weights"] = tuple(map(Path, given)) if isinstance(given, list) else Path(given)
    for name in ("copy", "stages"):
        if values.get(name) is not None:
            values[name] = tuple(values[name])
    values["augment"] = Augment.of(values.get("augment"))
    return TrainJob(**values)


def absolute(job: TrainJob) -> TrainJob:
    """The same job with paths that hold in any working directory; links stay links."""
    changed: dict[str, Any] = {
        name: Path(value).absolute() for name in _PATHS if (value := getattr(job, name)) is not None
    }
    if isinstance(job.weights, tuple):
        changed["weights"] = tuple(p.absolute() for p in job.weights)
    elif job.weights is not None:
        changed["weights"] = job.weights.absolute()
    return replace(job, **changed)


def write_result(path: Path, result: TrainResult) -> None:
    """Say in a file that a training ended well."""
    write_text(path, json.dumps({"result": asdict(result)}))


def write_error(path: Path, error: RecaffeError) -> None:
    """Say in a file why a training ended."""
    write_text(path, json.dumps({"error": type(error).__name__, "message": str(error)}))


def read_outcome(path: Path) -> dict[str, Any] | None:
    """What was written there, or None where nothing was, or nothing whole."""
    try:
        outcome = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return outcome if isinstance(outcome, dict) else None


def result_of(outcome: dict[str, Any]) -> TrainResult:
    """The result in an outcome; raises the error that it tells of instead."""
    if "result" in outcome:
        return TrainResult(**outcome["result"])
    kind = getattr(errors, str(outcome.get("error")), None)
    if not (isinstance(kind, type) and issubclass(kind, RecaffeError)):
        kind = TrainError
    raise kind(outcome.get("message", "The training said nothing of how it ended."))
