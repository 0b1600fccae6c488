"""What a training's container may not do, and how much of the machine it may take."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from docker.types import LogConfig

from recaffe.script import tell


def confinement(
    info: dict[str, Any], memory_mb: int, cpus: int, shm_size: str = "64m"
) -> dict[str, Any]:
    """Arguments of `containers.create` for an engine that says this of itself.

    The caller's user and groups, no network, no capabilities and no way to new ones, the memory
    (without swap) and the CPUs of the rule's resources; 0 MB is no limit.
    """
    if memory_mb > 0 and not info.get("MemoryLimit", True):
        tell("The container engine can't limit memory on this machine: mem_mb is not enforced.")
    limit = f"{memory_mb}m" if memory_mb > 0 else None
    # A rootless engine's root is the user who runs it.
    rootless = any("rootless" in option for option in info.get("SecurityOptions") or ())
    return {
        "user": "0:0" if rootless else f"{os.getuid()}:{os.getgid()}",
        "group_add": [] if rootless else [str(group) for group in os.getgroups()],
        "entrypoint": ["python"],
        # Nets name their data relative to where the workflow runs.
        "working_dir": str(Path.cwd()),
        "environment": {"HOME": "/tmp", "PYTHONUNBUFFERED": "1"},
        "network_mode": "none",
        # Processes that train together look up the name of their machine.
        "hostname": "localhost",
        "cap_drop": ["ALL"],
        "security_opt": ["no-new-privileges"],
        "init": True,
        "shm_size": shm_size,
        "mem_limit": limit,
        "memswap_limit": limit,
        "nano_cpus": int(min(cpus, info["NCPU"]) * 1e9),
        # Its words are read as they are said; nobody would read them again.
        "log_config": LogConfig(type="none"),
    }
