"""The container engine behind Docker's API, and its refusals in words that say what to do."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import closing, contextmanager

from docker.client import DockerClient
from docker.errors import APIError, DockerException, ImageNotFound

from recaffe.errors import ConfigError, MachineError, RecaffeError

_SOCKET = "unix:///var/run/docker.sock"
_OUTSIDE = "Or set runtime: host, which trains without a container."
# What an engine says when it doesn't create or start a container, in small letters → what that means.
_REFUSALS = (
    (
        ("could not select device driver", "unresolvable cdi devices", "no known gpu vendor"),
        "The container engine knows no NVIDIA GPUs. Install the NVIDIA Container Toolkit (nvidia-ctk "
        "runtime configure --runtime=docker, then restart docker), or train on the CPU: device: cpu.",
    ),
    (
        ("unsatisfied condition",),
        "The NVIDIA driver is too old for the CUDA of the image {image}. Update the driver, or train "
        "on the CPU: device: cpu.",
    ),
    (
        ("unknown device", "no such device", "device not found", "invalid device"),
        "`gpus` or CUDA_VISIBLE_DEVICES names a GPU that isn't in this machine; nvidia-smi lists them.",
    ),
    (
        ("nvidia",),
        "NVIDIA's part of the container engine finds no GPU that it can use. Does nvidia-smi work on "
        "this machine? Without a GPU, train on the CPU: device: cpu.",
    ),
    (
        ("docker-init", "catatonit"),
        "The container engine lacks the small init that stops a container cleanly. Install the "
        "package tini (Docker) or catatonit (Podman).",
    ),
    (
        ('exec: "python"', "exec: python"),
        "The image {image} has no python: it is none of recaffe's. Build them with `make images`, and "
        "set train.image to recaffe:cpu or recaffe:gpu.",
    ),
    (
        ("bind source path does not exist", "statfs"),
        "The container engine doesn't see this machine's files. It must run here: unset DOCKER_HOST, "
        "or keep the results where it can see them.",
    ),
    (
        ("no space left",),
        "No space left where the container engine keeps its containers. Free some (docker system df "
        "shows what takes it), then run the same command again.",
    ),
)  # fmt: skip


@contextmanager
def connected(timeout: float = 60.0) -> Iterator[DockerClient]:
    """A client for DOCKER_HOST, or for the machine's own socket; `timeout` in seconds an answer.

    Raises `MachineError` if nothing answers there, or this user may not ask.
    """
    try:
        client = DockerClient.from_env(timeout=timeout)
    except DockerException as error:
        raise _no_engine(error) from error
    with closing(client):
        yield client


def _no_engine(error: DockerException) -> MachineError:
    where, said = os.environ.get("DOCKER_HOST") or _SOCKET, str(error)
    if "PermissionError" in said:
        return MachineError(
            f"runtime is docker, but this user may not use {where}. Join the group docker "
            "(sudo usermod -aG docker $USER, then log in again), or use a rootless engine and set "
            f"DOCKER_HOST to its socket. {_OUTSIDE}"
        )
    if "FileNotFoundError" in said or "ConnectionRefused" in said:
        return MachineError(
            f"runtime is docker, but no container engine listens on {where}. Start it (sudo systemctl "
            "start docker; for Podman: systemctl --user start podman.socket), or set DOCKER_HOST to "
            f"its socket. {_OUTSIDE}"
        )
    return MachineError(f"The container engine on {where} can't be used: {said} {_OUTSIDE}")


def lost(error: Exception) -> MachineError:
    """An engine that answered at first."""
    return MachineError(
        f"The container engine stopped answering ({error}). Start it again, then run the same command: "
        "if the training's container still runs, that ends it after a snapshot and goes on from there."
    )


def refusal(error: DockerException, image: str) -> RecaffeError:
    """What the engine's error means, and what to do."""
    if isinstance(error, ImageNotFound):
        return ConfigError(
            f"There is no image {image} on this machine. Build it with `make images`, load one that "
            "was built elsewhere (docker load -i FILE), or name another one in train.image."
        )
    said = str(error.explanation if isinstance(error, APIError) and error.explanation else error)
    for words, meaning in _REFUSALS:
        if any(word in said.lower() for word in words):
            return MachineError(f"{meaning.format(image=image)} The engine says: {said}")
    return MachineError(f"The container engine can't run the training: {said}")
