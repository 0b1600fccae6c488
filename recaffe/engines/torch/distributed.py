"""Several processes that train one net together, each with its share of every batch.

`torchrun` starts them and tells each its place by RANK, WORLD_SIZE, LOCAL_RANK and where they meet.
Numbers on the CPU (losses, flags) travel by gloo, gradients on GPUs by NCCL.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import Tensor

from recaffe.errors import TrainError

# Between two meetings of all processes lies at most a test or a snapshot.
PATIENCE = timedelta(minutes=30)
# Process groups are never collected: the last one to forget a group of gloo's joins its threads while
# it holds Python's lock, and these may be waiting for that lock to let go of a last tensor.
_KEPT: list[dist.ProcessGroup | None] = []


class OtherProcessLost(TrainError):
    """Another process of the training has ended; its message is the one that counts."""


@dataclass(frozen=True)
class Group:
    """The processes of one training, and which of them this is. One process is a group as well."""

    rank: int = 0
    world: int = 1
    local_rank: int = 0
    local_world: int = 1

    @property
    def first(self) -> bool:
        """Whether this is the process that writes files and logs."""
        return self.rank == 0

    def sums(self, values: Sequence[float]) -> list[float]:
        """The sum over all processes of each value."""
        if self.world == 1 or not values:
            return list(values)
        both = torch.tensor(values, dtype=torch.float64)
        dist.all_reduce(both)
        return both.tolist()

    def highest(self, value: int) -> int:
        """The largest of all processes' values."""
        if self.world == 1:
            return value
        one = torch.tensor([value])
        dist.all_reduce(one, dist.ReduceOp.MAX)
        return int(one)

    def from_first(self, value: int) -> int:
        """The first process's value."""
        if self.world == 1:
            return value
        one = torch.tensor([value])
        dist.broadcast(one, 0)
        return int(one)

    def average(self, tensors: Sequence[Tensor]) -> None:
        """Make each tensor its mean over all processes, in place."""
        for tensor in tensors if self.world > 1 else ():
            dist.all_reduce(tensor)
            tensor /= self.world

    def wait(self) -> None:
        """Return when all processes are here."""
        if self.world > 1:
            dist.all_reduce(torch.zeros(1))


def place() -> Group:
    """Which process of how many this is, from what torchrun says; alone unless it started us."""
    env = os.environ
    if int(env.get("WORLD_SIZE", "1")) == 1 or "RANK" not in env:
        return Group()
    return Group(
        int(env["RANK"]), int(env["WORLD_SIZE"]),
        int(env.get("LOCAL_RANK", "0")), int(env.get("LOCAL_WORLD_SIZE", "1")),
    )  # fmt: skip


@contextmanager
def together(group: Group, device: torch.device) -> Iterator[None]:
    """Meet the other processes, and leave them at the end.

    Raises `OtherProcessLost` when another process ends while this one waits for it: its own message is
    what counts.
    """
    if group.world == 1:
        yield
        return
    on_gpu = device.type == "cuda"
    if on_gpu:
        torch.cuda.set_device(device)
    try:
        dist.init_process_group(
            "cpu:gloo,cuda:nccl" if on_gpu else "gloo",
            timeout=PATIENCE,
            device_id=device if on_gpu else None,
        )
        _KEPT.append(dist.group.WORLD)
        yield
    except (dist.DistError, RuntimeError) as error:
        if not _is_from_the_others(error):
            raise
        raise OtherProcessLost(
            f"Process {group.rank} of {group.world} stopped, because another one of this training "
            "ended or could not be reached. Look for that one's message; when it is mended, run the "
            "same command again to go on from the last snapshot."
        ) from error
    finally:
        if dist.is_initialized():
            dist.destroy_process_group()


def _is_from_the_others(error: Exception) -> bool:
    if isinstance(error, dist.DistError):
        return True
    words = ("gloo", "nccl", "connection closed by peer", "connection reset by peer", "socket")
    return any(word in str(error).lower() for word in words)
