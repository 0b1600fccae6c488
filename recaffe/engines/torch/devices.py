"""Where the torch engine computes, and how exactly: device, precision, layout, determinism."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import cache

import torch

from recaffe.engines import preflight
from recaffe.engines.base import TrainJob
from recaffe.errors import ConfigError, TrainError
from recaffe.script import tell

PRECISIONS = ("fp32", "tf32", "bf16")


def pick_device(name: str, local_rank: int = 0, local_world: int = 1) -> torch.device:
    """auto → a GPU where there is one; cuda → this process's own of the machine's GPUs.

    From then on, products are computed in float32 unless `numerics` says otherwise: cuDNN's are in
    TF32 by PyTorch's default.

    Raises `TrainError` if a GPU is wanted and missing, `MachineError` if this PyTorch has no code for
    it, `ConfigError` for a name that is no device.
    """
    _allow_tf32(False, False)
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
        if name == "cpu" and local_rank == 0 and shutil.which("nvidia-smi"):
            _tell_once(f"PyTorch sees no GPU: the CPU is used. {preflight.why_torch_sees_none()}")
    if name == "cpu":
        return torch.device("cpu")
    kind, _, number = name.partition(":")
    if kind != "cuda" or (number and not number.isdigit()):
        raise ConfigError(f"device is {name!r}; it can be auto, cpu, cuda, or one GPU: cuda:1.")
    there = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if not there:
        raise TrainError(
            f"device is {name}, but PyTorch sees no GPU here. {preflight.why_torch_sees_none()}"
        )
    index = int(number) if number else local_rank
    if index >= there or (number and local_world > 1):
        raise TrainError(
            f"device is {name}, for {local_world} processes on this machine, which has {there} GPUs. "
            "Start at most one process a GPU, with device: cuda or auto."
        )
    preflight.check_torch(index)
    return torch.device("cuda", index)


@cache
def _tell_once(message: str) -> None:
    tell(message)


def processes(devices: int | str, device: str, batch_size: int) -> int:
    """How many processes of this machine share a training.

    "auto" is one for each GPU, as many as divide the batch; one on the CPU.
    """
    if devices != "auto":
        return int(devices)
    if pick_device(device).type == "cpu" or ":" in device:
        return 1
    return max(n for n in range(1, torch.cuda.device_count() + 1) if batch_size % n == 0)


def keeps_channels_last(choice: str | bool, precision: str, device: torch.device) -> bool:
    """Whether pictures lie channels-last in memory.

    That is what oneDNN on CPUs and the tensor cores of GPUs want; cuDNN's float32 kernels don't.
    """
    if choice == "auto":
        return device.type == "cpu" or precision != "fp32"
    return bool(choice)


def name_of(device: torch.device, threads: int) -> str:
    """The device as a person says it."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"CPU, {threads} threads"


def autocast(precision: str, device: torch.device) -> AbstractContextManager[object]:
    """bf16: convolutions and inner products in bfloat16; see precision.py for all others."""
    if precision == "bf16":
        return torch.autocast(device.type, torch.bfloat16)
    return nullcontext()


@contextmanager
def numerics(job: TrainJob, device: torch.device) -> Iterator[None]:
    """PyTorch's global switches as the job wants them; put back at the end.

    Raises `ConfigError` for a precision that isn't one of `PRECISIONS`.
    """
    if job.precision not in PRECISIONS:
        raise ConfigError(f"precision is {job.precision!r}; it can be {', '.join(PRECISIONS)}.")
    cudnn = torch.backends.cudnn
    before = (
        torch.are_deterministic_algorithms_enabled(), cudnn.deterministic, cudnn.benchmark,
        torch.backends.cuda.matmul.allow_tf32, cudnn.allow_tf32,
    )  # fmt: skip
    torch.set_num_threads(job.threads)
    if job.deterministic:
        # cuBLAS reads it when it is first used.
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    _use_deterministic(job.deterministic)
    cudnn.deterministic, cudnn.benchmark = job.deterministic, not job.deterministic
    _allow_tf32(job.precision == "tf32", job.precision == "tf32")
    try:
        yield
    finally:
        _use_deterministic(before[0])
        cudnn.deterministic, cudnn.benchmark = before[1:3]
        _allow_tf32(*before[3:])


def _allow_tf32(products: bool, convolutions: bool) -> None:
    # The older pair of switches: torch's exporter refuses the newer ones.
    torch.backends.cuda.matmul.allow_tf32 = products
    torch.backends.cudnn.allow_tf32 = convolutions


def _use_deterministic(wanted: bool) -> None:
    """Called for nothing, torch's own function would import its compiler, which takes seconds."""
    if wanted != torch.are_deterministic_algorithms_enabled():
        torch.use_deterministic_algorithms(wanted)
