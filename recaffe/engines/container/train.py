"""One training in one container: started, listened to, stopped, and gone at the end."""

from __future__ import annotations

import os
import re
import threading
import time
from collections import deque
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import uuid4

from docker.client import DockerClient
from docker.errors import APIError, DockerException, NotFound
from docker.models.containers import Container
from requests.exceptions import RequestException

from recaffe import progress, status, stop
from recaffe.engines import jobfile, signals, store
from recaffe.engines.base import TrainJob, TrainResult
from recaffe.engines.container import client, gpus
from recaffe.engines.container.confinement import confinement
from recaffe.engines.container.mounts import mounts
from recaffe.errors import ConfigError, Interrupted, MachineError, TrainError
from recaffe.files import write_text
from recaffe.script import tell

# Names the folder of a run's snapshots: a container that its workflow left behind is found by it.
LABEL = "recaffe.snapshots"
# Seconds that a stopped training has to write its last snapshot.
GRACE = 600.0
_BETWEEN_LOOKS = 0.2
# What the inits and Python say of a program, a module, a package of it that isn't there.
_NO_RECAFFE = re.compile(
    r"exec python failed|failed to exec pid1|No module named '?recaffe(\.engines(\.run)?)?'?\)?$",
    re.MULTILINE,
)
_LINES = 5  # of what it said last, for the message


def train(job: TrainJob, run: dict[str, Any], memory_mb: int, cpus: int) -> TrainResult:
    """Train a workflow's job in the image `run["image"]`, with at most that memory and those CPUs.

    Raises what the training raises there, `MachineError` and `ConfigError` for an engine, image or
    GPU that isn't to be had, and `Interrupted` after SIGINT, SIGTERM or SIGHUP, once the training
    has written its snapshot. The container is removed in any case.
    """
    _check_outside()
    job = jobfile.absolute(job)
    folder = job.snapshots
    assert folder is not None, "a workflow's job"
    wanted = gpus.requests(run["gpus"], job.device, job.devices)
    if wanted and job.device == "auto":
        # An engine that ignores the request must not train for days on the CPU.
        job = replace(job, device="cuda")
    folder.mkdir(parents=True, exist_ok=True)
    files = folder / "job.json", folder / "result.json"
    said = folder / ".status.json"
    with (
        signals.requests("stop", "stop") as asked,
        client.connected() as engine,
        store.held(folder.parent, "Another workflow trains in a container for"),
    ):
        name, owner = f"recaffe-{uuid4().hex[:12]}", str(folder.parent)
        try:
            _end_leftovers(engine, owner, asked)
            files[1].unlink(missing_ok=True)
            write_text(files[0], jobfile.to_json(job))
            bounds = confinement(engine.info(), memory_mb, cpus, run["shm_size"])
            if status.is_wanted():
                bounds["environment"][status.FILE] = str(said)
                status.lead_to(said)
            if not wanted:
                # Where NVIDIA's runtime is the default, an image's own variable would get it all GPUs.
                bounds["environment"]["NVIDIA_VISIBLE_DEVICES"] = "void"
            container = engine.containers.create(
                run["image"],
                ["-m", "recaffe.engines.run", *map(str, files)],
                name=name,
                labels={LABEL: owner},
                device_requests=wanted,
                mounts=mounts(job),
                **bounds,
            )
            last = _follow(container, job.title, asked)
            state = _state(container)
        except DockerException as error:
            raise client.refusal(error, run["image"]) from error
        except RequestException as error:
            raise client.lost(error) from error
        finally:
            status.remove(said)
            # By name: an interrupt may have come before `create` returned.
            with suppress(NotFound, RequestException):
                engine.api.remove_container(name, force=True)
    return _result(state, files[1], asked, last, run["image"], memory_mb)


def _check_outside() -> None:
    """Raises `ConfigError` in a job that itself runs in an image, where no engine can be reached."""
    for name in ("APPTAINER_CONTAINER", "SINGULARITY_CONTAINER"):
        if image := os.environ.get(name):
            raise ConfigError(
                f"runtime is docker, but this rule already runs in the image {image} "
                "(--use-singularity), from where no container engine can be reached. Set runtime: "
                "host, since that image has the engines too, or leave out --use-singularity."
            )


def _end_leftovers(engine: DockerClient, owner: str, asked: signals.Requests) -> None:
    """Stop, after a snapshot, and remove what a killed workflow left of this run."""
    for left in engine.containers.list(all=True, filters={"label": f"{LABEL}={owner}"}):
        tell(f"Ending the container {left.name}, which a killed workflow left behind.")
        with suppress(NotFound):
            _end(left)
            deadline = time.monotonic() + GRACE
            while _is_running(left) and time.monotonic() < deadline:
                if asked.asked == signals.STOP:
                    raise Interrupted(stop.MESSAGE)
                time.sleep(_BETWEEN_LOOKS)
            left.remove(force=True)


def _follow(container: Container, title: str, asked: signals.Requests) -> deque[str]:
    """Start it, pass on what it says and the wish to stop, until it ends; returns its last lines."""
    last: deque[str] = deque(maxlen=_LINES)
    # Before the start, so that no word is lost.
    said = container.attach(stream=True, logs=False)
    try:
        if asked.asked == signals.STOP:
            raise Interrupted(stop.MESSAGE)
        container.start()
        listener = threading.Thread(target=_listen, args=(said, title, last), daemon=True)
        listener.start()
        _wait(container, listener, asked)
    finally:
        with suppress(OSError):  # the other side has closed it
            said.close()
    return last


def _wait(container: Container, listener: threading.Thread, asked: signals.Requests) -> None:
    """Until it has ended and all that it said is passed on, or for `GRACE` after it was stopped."""
    deadline = None
    # What it says can break off, as when the engine is restarted, while the training goes on.
    while listener.is_alive() or _is_running(container):
        if asked.asked == signals.STOP and deadline is None:
            _end(container)
            deadline = time.monotonic() + GRACE
        if deadline is not None and time.monotonic() > deadline:
            break
        listener.join(_BETWEEN_LOOKS)
        if not listener.is_alive():
            time.sleep(_BETWEEN_LOOKS)


def _listen(said: Iterable[bytes], title: str, last: deque[str]) -> None:
    rest = b""
    # An engine that is gone breaks it off: `_wait` looks what became of the training.
    with suppress(OSError, DockerException):
        for chunk in said:
            *lines, rest = (rest + chunk).split(b"\n")
            for line in lines:
                text = line.decode("utf-8", "replace")
                last.append(text)
                progress.relay(f"{text}\n", title)
    if rest:
        last.append(rest.decode("utf-8", "replace"))
        progress.relay(f"{last[-1]}\n", title)


def _end(container: Container) -> None:
    with suppress(APIError):  # it has ended, or was never started
        container.kill("SIGTERM")


def _is_running(container: Container) -> bool:
    container.reload()
    return container.status in ("running", "restarting", "paused")


def _state(container: Container) -> dict[str, Any]:
    container.reload()
    state: dict[str, Any] = container.attrs["State"]
    return state


def _result(
    state: dict[str, Any],
    file: Path,
    asked: signals.Requests,
    last: Iterable[str],
    image: str,
    memory_mb: int,
) -> TrainResult:
    """The result that the training left, or the reason why it left none."""
    outcome, status = jobfile.read_outcome(file) or {}, int(state["ExitCode"])
    if "result" in outcome:
        return jobfile.result_of(outcome)
    if state.get("OOMKilled"):
        raise MachineError(
            f"The training needed more than its container's {memory_mb} MB of memory. Give it more "
            f"(--set-resources train:mem_mb={2 * memory_mb}, or in the profile), or set micro_batch; "
            "then run the same command again to go on from the last snapshot."
        )
    if "error" in outcome:
        return jobfile.result_of(outcome)
    if asked.asked == signals.STOP:
        raise Interrupted(stop.MESSAGE)
    text = "\n".join(last)
    if _NO_RECAFFE.search(text):
        raise ConfigError(
            f"The image {image} has no recaffe, or an older one that knows no trainings in "
            "containers. Build it from this clone: make images."
        )
    if status == 137:
        raise TrainError(
            "The training's container was killed: from outside, or for lack of memory, which not every "
            f"engine tells (its limit is {memory_mb} MB, the rule's mem_mb). Run the same command again "
            "to go on from the last snapshot."
        )
    raise TrainError(
        f"The training's container ended with status {status} and without a result. What it said "
        f"last:\n{text}"
    )
