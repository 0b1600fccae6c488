"""Settings that only the torch engine has, refused before anything runs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from recaffe.augment import Augment
from recaffe.errors import ConfigError

# What each key must be with Caffe, and why.
_FIXED = {
    "precision": ("fp32", "Caffe computes in float32"),
    "compile": (False, "only PyTorch compiles nets"),
    "micro_batch": (0, "Caffe computes each GPU's whole share of a batch at once (iter_size is its way)"),
    "channels_last": ("auto", "Caffe's pictures lie channels-first in memory"),
}  # fmt: skip


def check(settings: Mapping[str, Any], where: str = "") -> None:
    """Raises `ConfigError` for a setting of a run or job that Caffe can't follow.

    `where` stands before the key: `runs.first.`
    """

    def refuse(key: str, reason: str, instead: str) -> None:
        raise ConfigError(
            f"{where}{key} is {settings[key]!r}, but engine is caffe: {reason}. Remove {key} {instead}, "
            "or set `engine: torch`."
        )

    for key, (wanted, reason) in _FIXED.items():
        if settings[key] != wanted or type(settings[key]) is not type(wanted):
            also = " (batch_size: auto sets it)" if settings[key] == "auto" else ""
            refuse(key, reason, f"(or make it {wanted!r}){also}")
    if Augment.of(settings["augment"]):
        raise ConfigError(
            f"{where}augment is {Augment.of(settings['augment'])}, but engine is caffe, which crops and mirrors "
            "and knows no more. Remove augment, or set `engine: torch`."
        )
    if settings["deterministic"] and settings["device"] != "cpu":
        refuse("deterministic", "on GPUs Caffe adds in an order of its own", "or set `device: cpu`")
    if settings["devices"] not in (1, "auto") and settings["device"] == "cpu":
        refuse("devices", "Caffe shares a batch among GPUs only", "or set `device: cuda`")
