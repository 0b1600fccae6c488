"""What the results were made from, and by what."""

from __future__ import annotations

from typing import Any

import yaml

from recaffe.report.album import Album

TITLE = "Provenance"


def view(facts: dict[str, Any], album: Album) -> dict[str, Any]:
    """The whole config as YAML."""
    text = yaml.safe_dump(facts["config"], sort_keys=False, allow_unicode=True)
    return {"config_text": text}
