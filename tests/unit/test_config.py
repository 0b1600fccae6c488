"""The config says what it allows; schema, defaults, and the commented examples stay in step."""

from __future__ import annotations

import importlib.util
import re
from typing import Any

import pytest
import yaml

from recaffe import config, solver
from recaffe.config import ROOT
from recaffe.errors import ConfigError

SMALL: dict[str, Any] = {"dataset": "d", "images": "x", "runs": {"a": {"weights": "none"}}}


def leaves(schema: dict[str, Any], path: str = "") -> dict[str, dict[str, Any]]:
    found = {}
    for key, value in schema.get("properties", {}).items():
        found[f"{path}{key}"] = value
        found |= leaves(value, f"{path}{key}.")
    return found


def test_every_key_has_a_description_and_every_setting_a_default() -> None:
    for name, value in leaves(config.schema()).items():
        assert value.get("description"), name
        required = name in ("dataset", "images", "runs")
        given = re.match(r"images\.(path|train|val|test)", name)
        assert required or given or "default" in value, name


def test_defaults_pass_their_own_schema() -> None:
    full = config.complete(SMALL)
    assert config.complete(
        {k: v for k, v in full.items() if k not in ("runs", "images")}
        | {"images": "x", "runs": {"a": {}}, "train": {"weights": "none"}}
    )
    for name, value in leaves(config.schema()).items():
        if "default" in value and "enum" in value:
            assert value["default"] in value["enum"], name


def test_the_users_config_shows_every_key_with_its_default() -> None:
    text = (ROOT / "config" / "config.yaml").read_text(encoding="utf-8")
    for section in ("scan", "split", "lmdb", "train", "model", "baselines", "report"):
        block = re.search(rf"^(?:# )?{section}:\n((?:(?:#|  ).*\n)+)", text, re.M)
        assert block, section
        lines = [re.sub(r"^#", " ", line).strip() for line in block.group(1).splitlines()]
        shown = yaml.safe_load("\n".join(lines))
        known = config.schema()["properties"][section]["properties"]
        wanted = {key: value["default"] for key, value in known.items()}
        if section == "train":
            wanted["engine"] = "caffe"  # the choice for one's own pictures; see the schema
        assert shown == wanted, section


@pytest.mark.parametrize("name", ["config.yaml", "demo.yaml"])
def test_shipped_configs_are_valid(name: str) -> None:
    assert config.load(ROOT / "config" / name)["runs"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"splt": {}}, "unknown key 'splt'.*Did you mean 'split'.*Allowed: "),
        ({"train": {"base_rl": 1}}, "unknown key 'base_rl' at train.*base_lr"),
        ({"train": {"lr_policy": "cosine"}}, "train.lr_policy.*'step'"),
        ({"train": {"epochs": "ten"}}, "train.epochs.*number"),
        ({"split": {"val": 0.6, "test": 0.6}}, "below 1"),
        ({"runs": {}}, "runs.*at least one row"),
        ({"runs": {"data": {}}}, "data"),
        ({"runs": {"a": {"net": "vgg99"}}}, "no net 'vgg99'.*squeezenet"),
        ({"runs": {"a": {"net": "lenet"}}}, "lenet has no weights"),
        ({"runs": {"a": {"crop_size": 300, "weights": "none"}}}, "crop_size is 300, larger"),
        ({"runs": {"a": {"mean": [1, 2], "weights": "none"}}}, "2 values but records have 3"),
        ({"images": {}}, "exactly one of"),
        ({"images": {"path": "x", "train": {"list": "y"}}}, "exactly one of"),
        ({"images": {"val": {"list": "y"}}}, "no `train` list"),
    ],
)
def test_a_mistake_names_key_and_allowed_values(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        config.complete({**SMALL, **change})


def test_a_run_overrides_train_which_overrides_the_net() -> None:
    full = config.complete(
        {
            **SMALL,
            "train": {"base_lr": 0.5, "weights": "none"},
            "runs": {"a": {"base_lr": 0.7}, "b": {}, "c": {"net": "lenet"}},
        }
    )
    assert [full["runs"][r]["base_lr"] for r in "abc"] == [0.7, 0.5, 0.5]
    assert full["runs"]["c"]["batch_size"] == 64


def test_schedule_follows_the_data() -> None:
    run = config.complete({**SMALL, "train": {"epochs": 10, "batch_size": 10, "iter_size": 2}})[
        "runs"
    ]["a"]
    built = solver.build(run, "net", "snap", train_records=1000, val_records=97)
    assert built.max_iter == 500
    assert built.stepsize == 200
    assert built.test_interval == built.snapshot == 50
    assert built.test_iter[0] * solver.test_batch(97, 64) >= 97
    assert (built.base_lr, built.momentum, built.weight_decay) == pytest.approx(
        (0.001, 0.9, 0.0005)
    )


@pytest.mark.parametrize("records", [1, 2, 63, 64, 65, 97, 220, 1000, 6149])
def test_test_batches_overshoot_as_little_as_can_be(records: int) -> None:
    batch = solver.test_batch(records, 64)
    over = -(-records // batch) * batch - records
    assert 1 <= batch <= min(64, records)
    assert over == min(
        -(-records // b) * b - records
        for b in range(max(1, min(64, records) // 2), min(64, records) + 1)
    )


def test_conda_environments_are_made_from_the_pins() -> None:
    spec = importlib.util.spec_from_file_location("lock", ROOT / "envs" / "lock.py")
    assert spec and spec.loader
    lock = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(lock)
    for name, extra in lock.ENVIRONMENTS.items():
        text = (ROOT / "envs" / name).read_text(encoding="utf-8")
        assert text == lock.environment(extra), f"{name}: run `make envs`"
        *conda, pip = yaml.safe_load(text)["dependencies"]
        assert conda == ["python=3.11", "pip"]
        assert all(re.fullmatch(r"[\w.-]+==[\w.]+", pin) for pin in pip["pip"])
        assert ("torch" in text) == (name == "torch.yaml")


def test_every_dependency_is_pinned() -> None:
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    pins = (ROOT / "constraints.txt").read_text(encoding="utf-8").lower().replace("_", "-")
    extras = [name for group in project["optional-dependencies"].values() for name in group]
    for name in {*project["dependencies"], *extras} - {"recaffe[convert,serve,track]"}:
        assert re.search(rf"^{re.escape(name.lower())}==", pins, re.M), name


def test_several_nodes_want_the_torch_engine_on_the_host() -> None:
    with pytest.raises(ConfigError, match=r"runs\.a\.nodes is 2, which wants engine: torch"):
        config.complete({**SMALL, "train": {"nodes": 2, "runtime": "docker"}, "runs": {"a": {}}})


def test_every_setting_of_a_run_reaches_a_stage() -> None:
    # A key that no stage is given would change nothing, and nobody would be told.
    rules = (ROOT / "rules" / "keys.smk").read_text(encoding="utf-8")
    lists = re.findall(r"^[A-Z_]+_KEYS = \(([^)]*)\)", rules, re.M)
    given = {key for keys in lists for key in re.findall(r'"(\w+)"', keys)}
    keys = set(config.schema()["properties"]["train"]["properties"])
    where = {"runtime", "image", "gpus", "shm_size", "trackers", "mlflow_uri"}
    # A file's name here follows from its digest, too, so it is another input of patch and train.
    # Whether there is a test of rates decides which rules there are, not what one does.
    assert keys - given - {"weights_sha256", "lr_range"} == where, (
        "scripts/train.py asks the config, so a change runs nothing again"
    )
