"""State dicts: .safetensors, or what torch.save wrote, of which nothing but tensors is read."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from recaffe.errors import WeightsError
from recaffe.extras import need

# Where training scripts put the state dict, beside an optimizer's state and the epoch.
_WRAPPERS = ("state_dict", "model", "model_state_dict")
_NO_VALUES = ".num_batches_tracked"


def read(path: Path) -> dict[str, np.ndarray]:
    """Key → float32 values; counts of batches are left out, and DataParallel's `module.`.

    Raises `WeightsError` that says what is wrong with the file.
    """
    values = _safetensors(path) if _is_safetensors(path) else _torch(path)
    for name in _WRAPPERS:
        if isinstance(values, Mapping) and isinstance(values.get(name), Mapping):
            values = values[name]
            break
    if not isinstance(values, Mapping) or not values:
        raise WeightsError(f"{path} holds no state dict, but {_what(values)}. {_SAVE}")
    out = {
        str(key): _array(value, str(key), path)
        for key, value in values.items()
        if not str(key).endswith(_NO_VALUES)
    }
    if all(key.startswith("module.") for key in out):
        out = {key.removeprefix("module."): value for key, value in out.items()}
    return out


_SAVE = "Save the weights alone: torch.save(model.state_dict(), FILE), or as safetensors."


def _what(values: Any) -> str:
    return "nothing" if isinstance(values, Mapping) else f"a {type(values).__name__}"


def _array(value: Any, key: str, path: Path) -> np.ndarray:
    if not isinstance(value, torch.Tensor):
        raise WeightsError(f"{path}: {key} is a {type(value).__name__}, no tensor. {_SAVE}")
    if not value.is_floating_point() or value.layout != torch.strided:
        raise WeightsError(
            f"{path}: {key} holds {value.dtype} ({value.layout}). Only plain float weights can be "
            "taken over, no quantised or sparse ones."
        )
    return value.detach().float().numpy()


def _is_safetensors(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(9)[8:] == b"{"  # eight bytes of length, then JSON


def _safetensors(path: Path) -> Any:
    library = need("safetensors.torch", "Reading .safetensors")
    try:
        return library.load_file(path)
    except need("safetensors", "Reading .safetensors").SafetensorError as error:
        raise WeightsError(
            f"{path} is a broken safetensors file ({error}). Fetch it again."
        ) from error


def _torch(path: Path) -> Any:
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except OSError:
        raise
    except Exception as error:  # whatever bytes may raise in zip, pickle and tensors
        raise WeightsError(f"{path} {_reason(str(error))}") from error


def _reason(text: str) -> str:
    if found := re.search(r"Unsupported global: GLOBAL (\S+)", text):
        return f"holds a pickled {found[1]} beside tensors, which isn't read: a pickle can run code. {_SAVE}"
    if "TorchScript" in text:
        return f"is a TorchScript program, which isn't run. {_SAVE}"
    if ".tar format" in text:
        return (
            "is in PyTorch's tar format of before 2017, which can't be read safely. Load it with PyTorch "
            f"where you trust it. {_SAVE}"
        )
    return (
        "can't be read as a state dict: neither safetensors nor whole tensors of torch.save. "
        + _SAVE
    )
