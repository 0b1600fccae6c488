"""What a check found."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

State = Literal["ok", "missing", "problem"]


@dataclass(frozen=True)
class Finding:
    """One line of the doctor's: `name` is what was looked for.

    `said` is what is there, or what its absence means; `todo` is what to do about it, "" if nothing.
    """

    name: str
    state: State
    said: str
    todo: str = ""

    @property
    def ok(self) -> bool:
        """Whether it is there and as it should be."""
        return self.state == "ok"


@dataclass(frozen=True)
class About:
    """What is asked about: a whole config, and whether the user named it (else it is the default's)."""

    config: dict[str, Any]
    named: bool

    @property
    def results(self) -> Path:
        """Where the workflow would write."""
        return Path(self.config["results"])

    @property
    def runs(self) -> list[dict[str, Any]]:
        """The config's runs, complete."""
        return list(self.config["runs"].values())
