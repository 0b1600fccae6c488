"""Memory of the device: what a training needs, what is there, and the part of a batch that fits."""

from __future__ import annotations

import os
import resource
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from recaffe.errors import ConfigError, NetError
from recaffe.net.graph import DATA
from recaffe.net.shapes import LayerShapes, count
from recaffe.net.summary import memory, parameters

# What estimates leave out (libraries' own copies and workspaces, fragments) takes as much again.
SHARE = 0.5
_CGROUPS = (
    ("/sys/fs/cgroup", "memory.max", "memory.current"),
    ("/sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.usage_in_bytes"),
)


def needed(net: Sequence[LayerShapes], pictures: int) -> int:
    """Bytes that training on so many pictures at once holds, in float32; `net` has any batch."""
    whole = memory(net)
    blobs = whole.activations + whole.gradients
    batch = next(t[0] for s in net if s.layer.type in DATA for t in s.tops if t)
    return whole.total - blobs + blobs * pictures // batch


def available(device: torch.device) -> int:
    """Bytes that the process can still have: of the GPU's memory, or of this machine's.

    On a machine the least of free memory, the container's and the process's own limit counts.
    """
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return min([_free(), *_free_in_cgroup(), *_free_address_space()])


def check_weights(net: Sequence[LayerShapes]) -> None:
    """Raises `NetError` for a net whose weights alone are more than the machine has free."""
    sizes = [(sum(count(shape) for shape, _ in s.params), s.layer.name) for s in net]
    largest, name = max(sizes, default=(0, ""))
    # Fillers draw a layer's values as float64 before they become float32.
    need, free = 4 * parameters(net) + 8 * largest, available(torch.device("cpu"))
    if need > free:
        raise NetError(
            f"The net's weights need {need / 2**30:.1f} GiB, and {free / 2**30:.1f} are free. Its "
            f"largest layer is {name!r} with {largest:,} weights. Correct its num_output, or take a "
            "machine with more memory."
        )


def divisors(pictures: int) -> list[int]:
    """All sizes of equal parts of a batch, largest first."""
    return [n for n in range(pictures, 0, -1) if pictures % n == 0]


def largest(pictures: int, fits: Callable[[int], bool]) -> int:
    """The largest divisor of the batch that fits; 0 if not even one picture does."""
    return next((n for n in divisors(pictures) if fits(n)), 0)


def parts(pictures: int, micro_batch: int) -> int:
    """How many parts of `micro_batch` pictures make the batch; 0 means all at once.

    Raises `ConfigError` if it doesn't divide the batch.
    """
    if not micro_batch:
        return 1
    if pictures % micro_batch:
        raise ConfigError(
            f"micro_batch is {micro_batch}, which doesn't divide the {pictures} pictures that a "
            f"process trains at once. It can be {', '.join(map(str, divisors(pictures)))}."
        )
    return pictures // micro_batch


def by_estimate(net: Sequence[LayerShapes], device: torch.device) -> Callable[[int], bool]:
    """Whether so many pictures at once should fit, from the shapes of the net's blobs."""
    limit = SHARE * available(device)
    return lambda pictures: needed(net, pictures) <= limit


def explain(
    net: Sequence[LayerShapes],
    device: torch.device,
    pictures: int,
    free: int,
    batch: tuple[int, int],
    world: int = 1,
) -> str:
    """The message for a step on `pictures` at once that ran out of memory.

    `free` bytes were there before the step; `batch` is batch_size and iter_size, for all processes.
    """
    batch_size, iter_size = batch
    # The step did fail, so an estimate that says otherwise is too low.
    low = lambda n: n < pictures and needed(net, n) <= SHARE * free  # noqa: E731 - one use
    fitting = largest(pictures, low)
    place = "the GPU's memory" if device.type == "cuda" else "memory"
    said = (
        f"Out of {place}: {pictures} pictures at once need about {in_gib(needed(net, pictures))} in "
        f"float32, and {in_gib(free)} were free."
    )
    if not fitting:
        return (
            f"{said} Not even one picture fits. Take a smaller net or crop_size, or a device with "
            "more memory."
        )
    parts = pictures // fitting
    smaller = max(d for d in divisors(batch_size) if d <= fitting * world)
    said += f" micro_batch: {fitting} (or auto) trains the same batch of {batch_size} in parts"
    if parts * smaller == batch_size or batch_size % smaller == 0:
        said += (
            f"; so does batch_size: {smaller} with iter_size: {iter_size * batch_size // smaller}, "
            f"which keeps the effective batch of {batch_size * iter_size}"
        )
    return f"{said}."


def in_gib(size: float) -> str:
    """Bytes as a person reads them."""
    return f"{size / 2**30:.1f} GiB" if size >= 2**30 / 10 else f"{size / 2**20:.1f} MiB"


def _free() -> int:
    try:
        for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _free_in_cgroup() -> list[int]:
    for root, limit, used in _CGROUPS:
        folder = Path(root)
        try:
            free = int((folder / limit).read_text()) - int((folder / used).read_text())
            return [free + _reclaimable((folder / "memory.stat").read_text())]
        except (OSError, ValueError):  # no such group, or "max"
            continue
    return []


def _reclaimable(stat: str) -> int:
    """Bytes that count as used but are only the page cache's, an LMDB's pages above all."""
    return sum(
        int(line.split()[1])
        for line in stat.splitlines()
        if line.split()[0] in ("inactive_file", "active_file")
    )


def _free_address_space() -> list[int]:
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    if limit == resource.RLIM_INFINITY:
        return []
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    except OSError:
        return [limit]
    return [limit - pages * os.sysconf("SC_PAGE_SIZE")]
