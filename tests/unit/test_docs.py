"""What the docs say of the config holds: the reference is that of the schema, the examples pass."""

from __future__ import annotations

import jsonschema
import pytest
import yaml

from recaffe import config
from tests import config_reference
from tests.docs import pages
from tests.unit.test_config import SMALL

BLOCKS = [b for page in pages.pages() for b in pages.blocks(page) if b.language == "yaml"]


def test_the_config_reference_is_that_of_the_schema() -> None:
    """`python -m tests.config_reference` writes it."""
    assert config_reference.PAGE.read_text(encoding="utf-8") == config_reference.page()


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: block.where)
def test_yaml_in_the_docs_is_a_config_or_a_part_of_one(block: pages.Block) -> None:
    if block.note.startswith("no config: "):
        assert yaml.safe_load(block.text)
        return
    shown = yaml.safe_load(block.text)
    validator = jsonschema.Draft202012Validator(config.schema())
    assert not list(validator.iter_errors(SMALL | shown))
    for run in (shown.get("train"), *(shown.get("runs") or {}).values()):
        net = (run or {}).get("net", "lenet")
        assert "/" in net or (config.MODELS / net).is_dir(), f"{block.where}: no net {net}"


def test_a_wrong_example_would_be_seen() -> None:
    validator = jsonschema.Draft202012Validator(config.schema())
    assert list(validator.iter_errors(SMALL | {"train": {"epoch": 3}}))
