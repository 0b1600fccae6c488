"""Memory of the device: what a training needs, what is there, and the part of a batch that fits."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch

from recaffe.errors import ConfigError, NetError, TrainError, is_out_of_memory
from recaffe.free_memory import free_memory
from recaffe.net.graph import DATA
from recaffe.net.shapes import LayerShapes, count
from recaffe.net.summary import memory, parameters

# What estimates leave out (libraries' own copies and workspaces, fragments) takes as much again.
SHARE = 0.5


def needed(net: Sequence[LayerShapes], pictures: int, training: bool = True) -> int:
    """Bytes that so many pictures at once hold, in float32, in training or in a pass forward alone.

    `net` has any batch.
    """
    whole = memory(net)
    blobs = whole.activations + (whole.gradients if training else 0)
    weights = whole.weights + (whole.weight_gradients + whole.momentum if training else 0)
    batch = next((t[0] for s in net if s.layer.type in DATA for t in s.tops if t), pictures)
    return weights + blobs * pictures // batch


def available(device: torch.device) -> int:
    """Bytes that the process can still have: of the GPU's memory, or of this machine's.

    On a machine the least of free memory, the container's and the process's own limit counts.
    """
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return free_memory()


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


@contextmanager
def explained(message: Callable[[], str]) -> Iterator[None]:
    """Turns running out of memory within into a `TrainError` with this message."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        raise TrainError(message()) from error


@contextmanager
def explained_pass(
    net: Sequence[LayerShapes],
    device: torch.device,
    pictures: int,
    setting: str,
    training: bool = False,
) -> Iterator[None]:
    """Turns running out of memory in passes over `pictures` at once into a `TrainError`.

    It names a number that should fit; `setting` is what to set to it.
    """
    free = available(device)

    def message() -> str:
        fitting = _largest_below(pictures, net, free, training)
        advice = f"Set {setting} to {fitting}." if fitting else _NOTHING_FITS
        return f"{_shortage(net, device, pictures, free, training)} {advice}"

    with explained(message):
        yield


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
    fitting = _largest_below(pictures, net, free, training=True)
    said = _shortage(net, device, pictures, free, training=True)
    if not fitting:
        return f"{said} {_NOTHING_FITS}"
    parts = pictures // fitting
    smaller = max(d for d in divisors(batch_size) if d <= fitting * world)
    said += f" micro_batch: {fitting} (or auto) trains the same batch of {batch_size} in parts"
    if parts * smaller == batch_size or batch_size % smaller == 0:
        said += (
            f"; so does batch_size: {smaller} with iter_size: {iter_size * batch_size // smaller}, "
            f"which keeps the effective batch of {batch_size * iter_size}"
        )
    return f"{said}."


_NOTHING_FITS = (
    "Not even one picture fits. Take a smaller net or crop_size, or a device with more memory."
)


def _largest_below(pictures: int, net: Sequence[LayerShapes], free: int, training: bool) -> int:
    """The largest part that should fit. The whole did fail: an estimate that it fits is too low."""
    fits = lambda n: n < pictures and needed(net, n, training) <= SHARE * free  # noqa: E731 - one use
    return largest(pictures, fits)


def _shortage(
    net: Sequence[LayerShapes], device: torch.device, pictures: int, free: int, training: bool
) -> str:
    place = "the GPU's memory" if device.type == "cuda" else "memory"
    return (
        f"Out of {place}: {pictures} pictures at once need about "
        f"{in_gib(needed(net, pictures, training))} in float32, and {in_gib(free)} were free."
    )


def in_gib(size: float) -> str:
    """Bytes as a person reads them."""
    return f"{size / 2**30:.1f} GiB" if size >= 2**30 / 10 else f"{size / 2**20:.1f} MiB"
