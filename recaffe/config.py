"""The config: checked against its schema, defaults filled in, one message for a mistake."""

from __future__ import annotations

import copy
import difflib
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import yaml

from recaffe import sweeps
from recaffe.augment import Augment, check_channels
from recaffe.engines import views
from recaffe.engines.caffe import limits
from recaffe.errors import ConfigError, NetError

ROOT = Path(__file__).resolve().parents[1]
SCHEMA = ROOT / "config" / "config.schema.yaml"
MODELS = ROOT / "models"


@cache
def schema() -> dict[str, Any]:
    """The parsed schema file. What a `sweep` may list is what `train` allows."""
    found: dict[str, Any] = yaml.safe_load(SCHEMA.read_text(encoding="utf-8"))
    properties = found["properties"]
    properties["runs"]["additionalProperties"]["properties"]["sweep"] |= {
        "additionalProperties": False,
        "properties": {
            key: {
                "type": ["array", "object"],
                "minItems": 1,
                "uniqueItems": True,
                "items": setting,
                "minProperties": 1,
                "propertyNames": {"pattern": "^[A-Za-z0-9_.-]+$"},
                "additionalProperties": setting,
            }
            for key, setting in properties["train"]["properties"].items()
        },
    }
    return found


def load(path: Path | str) -> dict[str, Any]:
    """Read, check and complete a config file."""
    try:
        config = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}. Copy config/config.yaml to start.") from error
    except UnicodeDecodeError as error:
        raise ConfigError(
            f"{path} is not UTF-8 text ({error}). Convert it, then try again."
        ) from error
    except (
        yaml.YAMLError,
        ValueError,
        RecursionError,
    ) as error:  # a date that is none is a ValueError
        raise ConfigError(f"{path} is not valid YAML: {error}") from error
    return complete(config)


def complete(config: Any) -> dict[str, Any]:
    """Check `config` and return a copy in which every key has a value.

    Rows of `runs` with `sweep` or `seeds` become plain ones. Each holds all keys of `train`: the
    schema's default, overridden by the net's own `finetune` section in its model.yaml, by `train`, and
    by the row itself.

    Raises `ConfigError` that names the key and what is allowed there.
    """
    if not isinstance(config, dict):
        raise ConfigError("The config is empty or not a mapping. Copy config/config.yaml to start.")
    # A section or row whose keys are all commented out is null in YAML: it means the defaults.
    config = {key: value for key, value in config.items() if value is not None}
    if isinstance(config.get("runs"), dict):
        config["runs"] = {name: row or {} for name, row in config["runs"].items()}
    _check(config)
    full = _fill(config, schema())
    if isinstance(full["images"], str):
        full["images"] = {"path": full["images"]}
    full["images"] = _fill(full["images"], schema()["properties"]["images"])
    _check_images(full["images"])
    _check_split(full["split"], full["images"])
    own = config.get("train") or {}
    rows = sweeps.expand(config["runs"], full.pop("max_runs"), max(1, full["split"]["folds"]))
    full["runs"] = {name: _run(name, own, row, full) for name, row in rows.items()}
    return full


def train_defaults() -> dict[str, Any]:
    """The schema's default of each key of `train`."""
    return _fill({}, schema()["properties"]["train"])


def _run(name: str, own: dict[str, Any], row: dict[str, Any], full: dict[str, Any]) -> dict:
    given = {**own, **row}
    run = train_defaults()
    net = given.get("net", run["net"])
    model = model_card(net)
    run.update(model.get("finetune", {}))
    if given.get("batch_size") == "auto":
        given = {**given, "batch_size": run["batch_size"], "micro_batch": "auto"}
    run.update(given)
    keys = schema()["properties"]["train"]["properties"]["augment"]
    filled = _fill(run["augment"], keys)
    # In one order, so that equal ones look equal.
    run["augment"] = {key: filled[key] for key in keys["properties"]}
    record = min(full["lmdb"]["width"], full["lmdb"]["height"])
    where = f"runs.{name}.crop_size"
    if run["crop_size"] == 0:
        run["crop_size"] = min(model.get("crop_size", 0), record)
    if run["crop_size"] > record:
        raise ConfigError(
            f"{where} is {run['crop_size']}, larger than the records ({full['lmdb']['width']}×"
            f"{full['lmdb']['height']}). Lower it, or raise lmdb.width and lmdb.height."
        )
    if run["mean"] == "auto":
        run["mean"] = model.get("mean", "file")
    if isinstance(run["mean"], str) and run["mean"] not in ("file", "none"):
        raise ConfigError(
            f"runs.{name}.mean is {run['mean']!r}; allowed are auto, file, none, or a list of values."
        )
    channels = 1 if full["lmdb"]["gray"] else 3
    if isinstance(run["mean"], list) and len(run["mean"]) not in (1, channels):
        raise ConfigError(
            f"runs.{name}.mean has {len(run['mean'])} values but records have {channels} channels."
        )
    if run["weights"] == "zoo" and not {"weights", "published"} & set(model):
        raise ConfigError(
            f"runs.{name}.weights is zoo, but {net} has no weights that recaffe can fetch. Give the "
            "path or URL of a .caffemodel, or none to train from scratch."
        )
    if "weights" in row and "weights_sha256" not in row:
        run["weights_sha256"] = ""  # that of `train` is of another file
    if run["weights_sha256"] and "://" not in run["weights"]:
        raise ConfigError(
            f"runs.{name}.weights_sha256 is the digest of a URL's file, but weights is "
            f"{run['weights']!r}. Remove it, or give the URL."
        )
    if run["lr_range_min"] >= run["lr_range_max"]:
        raise ConfigError(
            f"runs.{name}.lr_range_min is {run['lr_range_min']:g}; it must be less than lr_range_max "
            f"({run['lr_range_max']:g})."
        )
    try:
        check_channels(Augment.of(run["augment"]), channels)
    except ConfigError as error:
        raise ConfigError(f"runs.{name}.{error}") from error
    try:
        size = (full["lmdb"]["height"], full["lmdb"]["width"])
        views.check(run["test_crops"], run["crop_size"], size)
    except NetError as error:
        raise ConfigError(f"runs.{name}: {error}") from error
    if run["engine"] == "caffe":
        limits.check(run, f"runs.{name}.")
    if run["nodes"] > 1 and (run["engine"] != "torch" or run["runtime"] != "host"):
        raise ConfigError(
            f"runs.{name}.nodes is {run['nodes']}, which wants engine: torch and runtime: host. Set "
            "these, or nodes: 1."
        )
    return run


def model_card(net: str) -> dict[str, Any]:
    """The parsed model.yaml of a zoo net; empty for a prototxt path.

    Raises `ConfigError` if `net` is neither a folder of models/ nor a file.
    """
    card = MODELS / net / "model.yaml"
    if card.is_file():
        return yaml.safe_load(card.read_text(encoding="utf-8"))
    if Path(net).is_file():
        return {}
    zoo = sorted(p.parent.name for p in MODELS.glob("*/model.yaml"))
    raise ConfigError(
        f"There is no net {net!r}: neither a file nor one of models/ ({', '.join(zoo)})."
    )


def net_file(net: str) -> Path:
    """The train_val.prototxt of a zoo net or of a path."""
    inside = MODELS / net / "train_val.prototxt"
    return inside if inside.is_file() else Path(net)


def _check_images(images: dict[str, Any]) -> None:
    lists = [s for s in ("train", "val", "test") if s in images]
    forms = [k for k in ("path", "package") if images.get(k)] + (["train"] if lists else [])
    if len(forms) != 1:
        raise ConfigError(
            "`images` wants exactly one of: path (a folder or a table), train/val/test (lists), "
            f"package. It has {' and '.join(forms) or 'none of them'}."
        )
    if lists and "train" not in lists:
        raise ConfigError("`images` has lists but no `train` list.")


def _check_split(split: dict[str, Any], images: dict[str, Any]) -> None:
    count = split["folds"]
    if not count:
        if split["val"] + split["test"] >= 1:
            raise ConfigError(
                "split.val + split.test must stay below 1: nothing would be left to train."
            )
        return
    if count == 1:
        raise ConfigError(
            "split.folds is 1; allowed is 0 for none, or at least 2: what is tested can't train."
        )
    if split["val"] + 1 / count >= 1:
        raise ConfigError(
            f"split.val + 1 / split.folds must stay below 1, and is {split['val'] + 1 / count:g}: nothing "
            "would be left to train."
        )
    given = [f"images.{key}" for key in ("split_column", "val", "test") if images.get(key)]
    if given:
        raise ConfigError(
            f"split.folds is {count}, which divides all pictures into training and test; {given[0]} does so, "
            "too. Remove one of them."
        )


def _check(config: dict[str, Any]) -> None:
    validator = jsonschema.Draft202012Validator(schema())
    errors = sorted(validator.iter_errors(config), key=lambda e: [str(p) for p in e.absolute_path])
    if errors:
        raise ConfigError("\n".join(_say(error) for error in errors[:5]))


def _say(error: jsonschema.ValidationError) -> str:
    where = ".".join(str(p) for p in error.absolute_path) or "the top level"
    rule, value = error.validator, error.instance
    if rule == "additionalProperties":
        known = sorted(error.schema["properties"])
        unknown = sorted(str(k) for k in value if k not in known)
        lines = []
        for key in unknown:
            near = difflib.get_close_matches(key, known, n=1)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            lines.append(
                f"Config: unknown key {key!r} at {where}.{hint} Allowed: {', '.join(known)}."
            )
        return "\n".join(lines)
    if rule == "required":
        missing = [k for k in error.validator_value if k not in value]
        return f"Config: {where} lacks the key {missing[0]!r}."
    allowed = {
        "enum": lambda v: "one of " + ", ".join(repr(x) for x in v if x != ""),
        "type": lambda v: "a value of type " + (v if isinstance(v, str) else " or ".join(v)),
        "minimum": lambda v: f"at least {v}",
        "maximum": lambda v: f"at most {v}",
        "exclusiveMinimum": lambda v: f"more than {v}",
        "exclusiveMaximum": lambda v: f"less than {v}",
        "minItems": lambda v: f"at least {v} values",
        "maxItems": lambda v: f"at most {v} values",
        "pattern": lambda v: f"text that matches {v}",
        "minProperties": lambda v: f"at least one {'row' if where == 'runs' else 'entry'}",
        "uniqueItems": lambda v: "a list whose values differ",
    }.get(str(rule), lambda v: error.message)(error.validator_value)
    return f"Config: {where} is {value!r}; allowed is {allowed}."


def _fill(config: dict[str, Any] | None, part: dict[str, Any]) -> dict[str, Any]:
    """A copy of `config` with the schema part's defaults, mappings filled in depth."""
    full = copy.deepcopy(config or {})
    for key, sub in part.get("properties", {}).items():
        if key not in full and "default" in sub:
            full[key] = copy.deepcopy(sub["default"])
        if sub.get("type") == "object" and key in full and "properties" in sub:
            full[key] = _fill(full[key], sub)
    return full
