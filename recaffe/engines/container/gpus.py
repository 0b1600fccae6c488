"""The GPUs that a container asks for."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

from docker.types import DeviceRequest

_CAPABILITIES = [["gpu", "compute", "utility"]]


def requests(
    choice: str | Sequence[int | str],
    device: str,
    devices: int | str,
    environ: Mapping[str, str] = os.environ,
) -> list[DeviceRequest]:
    """A request for GPUs by the config's `gpus`, or none.

    "auto" asks for none where `device` is cpu; else for those that CUDA_VISIBLE_DEVICES names, as
    clusters set it; else for as many as `devices`. A list holds numbers or UUIDs of nvidia-smi.
    """
    if choice == "none":
        return []
    if choice == "all":
        return [_request(count=-1)]
    if choice == "auto":
        if device == "cpu":
            return []
        visible = environ.get("CUDA_VISIBLE_DEVICES")
        if visible is None:
            return [_request(count=devices if isinstance(devices, int) else -1)]
        # CUDA stops at the first that is none: "" and -1 hide all.
        choice = []
        for name in visible.split(","):
            if not name.strip() or name.strip().startswith("-"):
                break
            choice.append(name.strip())
    return [_request(device_ids=[str(name) for name in choice])] if choice else []


def _request(**which: object) -> DeviceRequest:
    # The driver is left to the engine, which takes that of the NVIDIA Container Toolkit.
    return DeviceRequest(capabilities=_CAPABILITIES, **which)
