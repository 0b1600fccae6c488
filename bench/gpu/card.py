"""The card that a figure is of, and how much of its memory a process took."""

from __future__ import annotations

import resource

from recaffe.engines import preflight
from recaffe.engines.cards import dotted
from recaffe.errors import MachineError

MIB = 2**20


def about(device: str) -> dict[str, str]:
    """What figures of a card depend on besides the machine; of the CPU only that it is no card."""
    import torch

    if device == "cpu":
        return {"gpu": "none: a try on the CPU"}
    found = torch.cuda.get_device_properties(device)
    try:
        driver = dotted(preflight.found()[0].driver or (0,))
    except MachineError:  # a container may lack nvidia-smi
        driver = "unknown"
    return {
        "gpu": found.name,
        "gpu_memory": f"{found.total_memory / 2**30:.1f} GiB",
        "compute_capability": f"{found.major}.{found.minor}",
        "driver": driver,
        "cuda": str(torch.version.cuda),
        "cudnn": str(torch.backends.cudnn.version()),
    }


def peak(device: str) -> float:
    """The most MiB that PyTorch held on the card at once; on the CPU, the most that this process had."""
    import torch

    if device == "cpu":
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / MIB
    return torch.cuda.max_memory_allocated(device) / MIB
