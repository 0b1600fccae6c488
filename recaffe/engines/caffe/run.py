"""How Caffe's programs are started: environment, GPUs, threads."""

from __future__ import annotations

import os

from recaffe.engines.caffe import find
from recaffe.engines.caffe.find import Caffe
from recaffe.errors import ConfigError

_THREADS = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS")


def environment(caffe: Caffe, threads: int, quiet: bool = False) -> dict[str, str]:
    """This process's, with all of glog's lines (or only errors) on stderr in their plain form."""
    env = {k: v for k, v in os.environ.items() if not k.startswith("GLOG_") and k != "RECAFFE_TTY"}
    if caffe.python is not None:
        own = [str(caffe.python), env.get("PYTHONPATH", "")]
        env["PYTHONPATH"] = os.pathsep.join(filter(None, own))
    return {
        **env,
        **dict.fromkeys(_THREADS, str(threads)),
        "GLOG_logtostderr": "1",
        "GLOG_minloglevel": "2" if quiet else "0",
    }


def gpus(caffe: Caffe, device: str, devices: int | str, batch: int) -> tuple[int, ...]:
    """The numbers of the GPUs to use; none for the CPU.

    `auto` takes a GPU where there is one and Caffe can use it; of `devices: auto`, as many as divide
    the batch. Raises `ConfigError` for GPUs that aren't there, or that Caffe can't use.
    """
    there = len(find.gpus())
    if device == "cpu" or (device == "auto" and not (caffe.cuda and there)):
        if devices not in (1, "auto"):
            raise ConfigError(
                f"devices is {devices}, but Caffe would run on the CPU here, where it can't share a batch. "
                "Set `devices: 1`, or `engine: torch`."
            )
        return ()
    kind, _, number = device.partition(":")
    if device != "auto" and (kind != "cuda" or (number and not number.isdigit())):
        raise ConfigError(f"device is {device!r}; it can be auto, cpu, cuda, or one GPU: cuda:1.")
    if not caffe.cuda:
        raise ConfigError(
            f"device is {device}, but {caffe.program} was built for CPUs only. Set `device: cpu`, build "
            "Caffe for GPUs (make caffe-cuda), or set `engine: torch`."
        )
    if not there:
        raise ConfigError(
            f"device is {device}, but nvidia-smi shows no GPU here. Set `device: auto` or `device: cpu`, "
            "or check the driver."
        )
    if number:
        return (int(number),)
    if devices == "auto":
        most = there if caffe.nccl else 1
        return tuple(range(max(n for n in range(1, most + 1) if batch % n == 0)))
    return tuple(range(int(devices)))


def name_of(chosen: tuple[int, ...], threads: int) -> str:
    """The device as a person says it."""
    names = find.gpus()
    if not chosen:
        return f"CPU, {threads} threads (Caffe)"
    first = names[chosen[0]] if chosen[0] < len(names) else f"GPU {chosen[0]}"
    return f"{first} (Caffe)" if len(chosen) == 1 else f"{len(chosen)} × {first} (Caffe)"
