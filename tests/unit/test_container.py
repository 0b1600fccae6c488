"""What a training's container gets and what it may not, without an engine that runs one."""

from __future__ import annotations

import gc
import io
import os
import socket
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from docker.errors import APIError, DockerException, ImageNotFound

from recaffe import status
from recaffe.config import train_defaults
from recaffe.engines import container, jobfile
from recaffe.engines.base import TrainJob, TrainResult
from recaffe.engines.container import client, gpus
from recaffe.engines.container.confinement import confinement
from recaffe.engines.container.mounts import mounts
from recaffe.errors import ConfigError, MachineError
from tests.training import write_training

NONE: dict[str, str] = {}
# What engines said, word for word: Docker 20.10 and 28, Podman 4, NVIDIA's hook.
NO_NVIDIA = 'could not select device driver "" with capabilities: [[compute gpu utility]]'
OLD_DRIVER = (
    "failed to create task for container: failed to create shim task: OCI runtime create failed: runc "
    "create failed: error running hook #0: exit status 1, stderr: Auto-detected mode as 'legacy' "
    "nvidia-container-cli: requirement error: unsatisfied condition: cuda>=13.0, please update your "
    "driver to a newer version, or use an earlier cuda container: unknown"
)
NO_DRIVER = (
    "OCI runtime create failed: error running hook #0, stderr: nvidia-container-cli: initialization "
    "error: nvml error: driver not loaded: unknown"
)


def visible(found: list[Any]) -> list[tuple[int, list[str]]]:
    return [(r.count, r.device_ids or []) for r in found]


@pytest.mark.parametrize(
    ("choice", "device", "devices", "environ", "wanted"),
    [
        ("none", "cuda", 4, NONE, []),
        ("all", "auto", 1, NONE, [(-1, [])]),
        ("auto", "cpu", 1, NONE, []),
        ("auto", "auto", 1, NONE, [(1, [])]),
        ("auto", "cuda", 2, NONE, [(2, [])]),
        ("auto", "cuda", "auto", NONE, [(-1, [])]),
        ("auto", "cuda", 1, {"CUDA_VISIBLE_DEVICES": "2, 3"}, [(0, ["2", "3"])]),
        ("auto", "cuda", 1, {"CUDA_VISIBLE_DEVICES": "GPU-4f1a"}, [(0, ["GPU-4f1a"])]),
        ("auto", "auto", 1, {"CUDA_VISIBLE_DEVICES": ""}, []),
        ("auto", "auto", 1, {"CUDA_VISIBLE_DEVICES": "-1"}, []),
        ("auto", "auto", 1, {"CUDA_VISIBLE_DEVICES": "1,-1,2"}, [(0, ["1"])]),
        ([0, "GPU-4f1a"], "auto", 1, {"CUDA_VISIBLE_DEVICES": "5"}, [(0, ["0", "GPU-4f1a"])]),
    ],
)
def test_gpus_are_asked_for_by_the_config_the_cluster_and_the_device(
    choice: Any, device: str, devices: Any, environ: dict[str, str], wanted: list[Any]
) -> None:
    found = gpus.requests(choice, device, devices, environ)
    assert visible(found) == wanted
    assert all(r.capabilities == [["gpu", "compute", "utility"]] for r in found)


def test_only_what_the_job_reads_is_mounted_and_only_its_snapshots_are_writable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    solver = write_training(tmp_path / "in")
    net = solver.with_name("net.prototxt")
    text = net.read_text().replace(
        f"{tmp_path}/in/train", "in/train"
    )  # relative, as the workflow's
    text = text.replace("mean_value: 100", 'mean_file: "in/mean"', 1)
    net.write_text(text)
    for name in ("mean", "w1", "elsewhere", "neighbour"):
        (tmp_path / "in" / name).write_bytes(b"")
    (tmp_path / "in" / "w2").symlink_to("elsewhere")
    job = TrainJob(
        solver,
        snapshots=tmp_path / "out" / "snapshots" / "key",
        weights=(tmp_path / "in" / "w1", tmp_path / "in" / "w2", tmp_path / "in" / "missing"),
    )
    found = {m["Target"]: (m["Source"], m["ReadOnly"]) for m in mounts(job)}
    read = ("mean", "net.prototxt", "solver.prototxt", "train", "val", "w1")
    assert found == {
        **{f"{tmp_path}/in/{name}": (f"{tmp_path}/in/{name}", True) for name in read},
        f"{tmp_path}/in/w2": (f"{tmp_path}/in/elsewhere", True),
        str(job.snapshots): (str(job.snapshots), False),
    }
    assert all(m["Type"] == "bind" for m in mounts(job))


def test_the_container_has_no_more_rights_than_the_caller_and_less() -> None:
    bounds = confinement({"NCPU": 4}, memory_mb=3000, cpus=2, shm_size="2g")
    assert bounds["user"] == f"{os.getuid()}:{os.getgid()}"
    assert bounds["network_mode"] == "none"
    assert bounds["cap_drop"] == ["ALL"]
    assert bounds["security_opt"] == ["no-new-privileges"]
    assert bounds["mem_limit"] == bounds["memswap_limit"] == "3000m"
    assert bounds["nano_cpus"] == 2e9
    assert bounds["shm_size"] == "2g"
    assert confinement({"NCPU": 4}, 0, 64)["nano_cpus"] == 4e9  # Docker refuses more than there are
    assert confinement({"NCPU": 4}, 0, 1)["mem_limit"] is None


def test_under_a_rootless_engine_the_caller_is_root_inside() -> None:
    # As the engine numbers users, its 0 is the caller, and the caller's own number is another.
    info = {"NCPU": 4, "SecurityOptions": ["name=seccomp,profile=default", "name=rootless"]}
    bounds = confinement(info, 0, 1)
    assert (bounds["user"], bounds["group_add"]) == ("0:0", [])


def test_memory_that_cannot_be_limited_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    confinement({"NCPU": 4, "MemoryLimit": False}, 1000, 1)
    assert "mem_mb is not enforced" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("said", "words"),
    [
        (NO_NVIDIA, "knows no NVIDIA GPUs. Install the NVIDIA Container Toolkit"),
        (OLD_DRIVER, "driver is too old for the CUDA of the image recaffe:gpu. Update the driver"),
        (NO_DRIVER, "finds no GPU that it can use. Does nvidia-smi work"),
        ("nvidia-container-cli: device error: 7: unknown device: unknown", "isn't in this machine"),
        ('exec: "python": executable file not found in $PATH', "has no python.*make images"),
        ("fork/exec /usr/bin/docker-init: no such file", "package tini"),
        (
            "invalid mount config: bind source path does not exist: /a",
            "must run here: unset DOCKER_H",
        ),
        ("write /var/lib/docker/x: no space left on device", "No space left where the container"),
        ("something new", "can't run the training: something new"),
    ],
)
def test_an_engine_s_refusal_says_what_to_do(said: str, words: str) -> None:
    error = client.refusal(APIError("500", explanation=said), "recaffe:gpu")
    with pytest.raises(MachineError, match=words):
        raise error
    assert said in str(error)


def test_a_missing_image_says_how_to_get_it() -> None:
    error = client.refusal(ImageNotFound("404", explanation="No such image"), "recaffe:gpu")
    with pytest.raises(
        ConfigError, match="no image recaffe:gpu .*make images.*docker load.*train.i"
    ):
        raise error


def asked(tmp_path: Path) -> None:
    job = TrainJob(write_training(tmp_path), snapshots=tmp_path / "snapshots" / "key")
    container.train(job, {**train_defaults(), "runtime": "docker"}, 1000, 1)


def message_without(host: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("DOCKER_HOST", host)
    try:
        asked(tmp_path)
    except MachineError as error:
        return str(error)
    finally:
        gc.collect()  # the SDK drops a socket that it couldn't connect, with a warning
    return ""


@pytest.mark.filterwarnings("ignore:Exception ignored in. <socket")
def test_without_an_engine_the_message_names_its_socket_and_the_way_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nowhere = f"unix://{tmp_path}/nowhere.sock"
    said = message_without(nowhere, tmp_path, monkeypatch)
    assert f"no container engine listens on {nowhere}" in said
    assert "runtime: host" in said
    with socket.socket(socket.AF_UNIX) as dead:  # its file is there, nobody listens
        dead.bind(f"{tmp_path}/nowhere.sock")
        assert "no container engine listens" in message_without(nowhere, tmp_path, monkeypatch)


def test_without_the_permission_the_message_names_the_group(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: Any, **__: Any) -> None:
        # The SDK's own words around the socket's error.
        cause = PermissionError(13, "Permission denied")
        raise DockerException(
            f"Error while fetching server API version: ('Connection aborted.', {cause!r})"
        )

    monkeypatch.setattr(client.DockerClient, "from_env", refused)
    with pytest.raises(MachineError, match="may not use .*usermod -aG docker"):
        asked(tmp_path)


class Ended:
    """A container of an engine that runs none: what its training would have written is written."""

    status, attrs = "exited", {"State": {"ExitCode": 0}}

    def __init__(self, environment: dict[str, str], result: Path, log: Path) -> None:
        self.environment, self.result, self.log = environment, result, log
        self.seen: dict[str, Any] | None = None

    def attach(self, **_: Any) -> Any:
        return io.BytesIO()

    def start(self) -> None:
        Path(self.environment[status.FILE]).write_text('{"done": 3}', encoding="utf-8")
        self.seen = status.read(status.file_of(self.log))
        jobfile.write_result(self.result, TrainResult(1, 1, 0.5, "reached max_iter", 1.0, "cpu"))

    def reload(self) -> None:
        pass


def test_how_far_a_training_is_is_seen_from_outside_of_its_container(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[Ended] = []

    def create(image: str, command: list[str], **options: Any) -> Ended:
        folder = tmp_path / "snapshots" / "key"
        inside = Path(options["environment"][status.FILE])
        assert any(
            Path(m["Target"]) in inside.parents for m in options["mounts"] if not m["ReadOnly"]
        )
        made.append(Ended(options["environment"], folder / "result.json", tmp_path / "a.log"))
        return made[0]

    engine = SimpleNamespace(
        info=lambda: {"NCPU": 4, "MemoryLimit": True},
        containers=SimpleNamespace(create=create, list=lambda **_: []),
        api=SimpleNamespace(remove_container=lambda *_, **__: None),
    )
    monkeypatch.setattr(client, "connected", lambda: nullcontext(engine))
    monkeypatch.setenv(status.FILE, "")  # restored at the end
    status.begin(tmp_path / "a.log")
    asked(tmp_path)
    assert made[0].seen == {"done": 3}
    status.end()
    assert not [*tmp_path.rglob("*.status.json")]


def test_in_a_singularity_image_docker_is_refused_with_both_ways_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("APPTAINER_CONTAINER", "/here/recaffe-cpu.sif")
    with pytest.raises(ConfigError, match="recaffe-cpu.sif.*runtime: host.*--use-singularity"):
        asked(tmp_path)
