"""Packages that only some commands need: the extras of pyproject.toml."""

from __future__ import annotations

from importlib import import_module
from types import ModuleType

from recaffe.errors import MachineError


def need(name: str, what: str = "Converting", extra: str = "convert") -> ModuleType:
    """The module; raises `MachineError` that says how to install its `extra`. `what` wants it."""
    try:
        return import_module(name)
    except ImportError as error:
        raise MachineError(
            f"{what} needs {name.split('.')[0]}, which isn't installed: "
            f"run `make setup`, or pip install -c constraints.txt -e '.[{extra}]', in the clone."
        ) from error
