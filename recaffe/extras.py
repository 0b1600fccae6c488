"""Packages that only some commands need: the `convert` extra."""

from __future__ import annotations

from importlib import import_module
from types import ModuleType

from recaffe.errors import MachineError


def need(name: str, what: str = "Converting") -> ModuleType:
    """The module; raises `MachineError` that says how to install it. `what` wants it."""
    try:
        return import_module(name)
    except ImportError as error:
        raise MachineError(
            f"{what} needs {name.split('.')[0]}, which isn't installed: "
            "run `make setup`, or pip install -c constraints.txt -e '.[convert]', in the clone."
        ) from error
