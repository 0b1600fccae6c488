"""Packages that only some commands need: the extras of pyproject.toml."""

from __future__ import annotations

from collections.abc import Iterable
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType

from recaffe.errors import MachineError

# What an ONNX is written and tried with.
ONNX = ("onnx", "onnxruntime", "onnxscript")


def need(name: str, what: str = "Converting", extra: str = "convert") -> ModuleType:
    """The module; raises `MachineError` that says how to install its `extra`. `what` wants it."""
    try:
        return import_module(name)
    except ImportError as error:
        raise _missing(name, what, extra) from error


def check(names: Iterable[str], what: str, extra: str = "convert") -> None:
    """Raises as `need` does, and imports nothing, which can take seconds."""
    for name in names:
        if find_spec(name) is None:
            raise _missing(name, what, extra)


def _missing(name: str, what: str, extra: str) -> MachineError:
    return MachineError(
        f"{what} needs {name.split('.')[0]}, which isn't installed: "
        f"run `make setup`, or pip install -c constraints.txt -e '.[{extra}]', in the clone."
    )
