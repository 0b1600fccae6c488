"""Docker, Podman, Apptainer, and recaffe's images."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from typing import Any

from recaffe.config import ROOT
from recaffe.doctor.bounded import PATIENCE, ask
from recaffe.doctor.result import About, Finding, State
from recaffe.errors import MachineError

_IMAGES = ("recaffe:cpu", "recaffe:gpu")
_MAKE = "`make images` builds it."


def docker(about: About) -> Iterator[Finding]:
    """docker, docker with GPUs, an entry for each image."""
    from docker.errors import DockerException
    from requests.exceptions import RequestException

    from recaffe.engines.container import client

    try:
        with client.connected(PATIENCE) as engine:
            version, info = engine.version(), engine.info()
            name = next((c["Name"] for c in version.get("Components") or ()), "engine")
            yield Finding("docker", "ok", f"{name} {version.get('Version', '?')} answers")
            yield _gpus(info)
            for image in _wanted(about):
                yield _image(engine, image)
    except MachineError as error:
        # The client speaks of a run that wants it.
        said = str(error).removeprefix("runtime is docker, but ")
        state: State = "missing" if "no container engine listens" in said else "problem"
        yield Finding("docker", state, said[:1].upper() + said[1:])
    except (DockerException, RequestException) as error:
        yield Finding("docker", "problem", str(client.lost(error)))


def others(about: About) -> Iterator[Finding]:
    """podman, apptainer, SIF."""
    yield _program("podman", ("podman",), "runtime: docker, by its socket in DOCKER_HOST")
    yield _program("apptainer", ("apptainer", "singularity"), "snakemake --use-singularity")
    sif = ROOT / "docker" / "recaffe-cpu.sif"
    if sif.is_file():
        yield Finding("SIF", "ok", f"{os.path.relpath(sif)}, {sif.stat().st_size / 1e6:,.0f} MB")
    else:
        said = f"no {os.path.relpath(sif)}: --use-singularity has nothing to run"
        yield Finding("SIF", "missing", said, _MAKE)


def _wanted(about: About) -> list[str]:
    own = [run["image"] for run in about.runs if run["runtime"] == "docker"]
    return list(dict.fromkeys([*own, *_IMAGES]))


def _gpus(info: dict[str, Any]) -> Finding:
    devices = [d.get("ID", "") for d in info.get("DiscoveredDevices") or ()]
    if "nvidia" in (info.get("Runtimes") or ()) or any("nvidia" in d for d in devices):
        return Finding("docker with GPUs", "ok", "NVIDIA's runtime is known to the engine")
    said = "the engine knows no NVIDIA runtime: containers train on the CPU (device: cpu)"
    todo = (
        "Where there is a GPU: install the NVIDIA Container Toolkit, nvidia-ctk runtime configure "
        "--runtime=docker, restart docker."
    )
    return Finding("docker with GPUs", "missing", said, todo)


def _image(engine: Any, image: str) -> Finding:
    from docker.errors import ImageNotFound

    try:
        found = engine.images.get(image)
    except ImageNotFound:
        return Finding(f"image {image}", "missing", "not on this machine", _MAKE)
    return Finding(f"image {image}", "ok", f"{found.attrs.get('Size', 0) / 1e9:,.1f} GB")


def _program(name: str, programs: tuple[str, ...], serves: str) -> Finding:
    program = next(filter(None, map(shutil.which, programs)), None)
    if program is None:
        return Finding(name, "missing", f"not on PATH (it serves {serves})")
    try:
        said = ask(program, "--version").splitlines()
    except MachineError as error:
        return Finding(name, "problem", str(error), f"Does `{program} --version` work by itself?")
    return Finding(name, "ok", f"{said[0] if said else 'of unknown version'}, for {serves}")
