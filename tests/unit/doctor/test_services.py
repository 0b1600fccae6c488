"""Containers and clusters, as `recaffe doctor` sees them."""

from __future__ import annotations

import gc
import http.server
import json
import socketserver
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from recaffe.doctor import (
    cluster,
    containers,
)
from tests.unit.doctor.helpers import Program, about, by_name


@pytest.fixture
def daemon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Any]]:
    """A container engine that answers what is put here, by the end of the path."""
    answers: dict[str, Any] = {
        "version": {"Version": "28.2", "ApiVersion": "1.44", "Components": [{"Name": "Engine"}]},
        "info": {"Runtimes": {"runc": {}}},
        "recaffe:cpu/json": {"Id": "sha256:1", "Size": 2.5e9},
    }

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            known = next((v for k, v in answers.items() if self.path.endswith(k)), None)
            body = json.dumps(known or {"message": "No such image"}).encode()
            self.send_response(404 if known is None else 200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def address_string(self) -> str:
            return "test"

        def log_message(self, *_: Any) -> None:
            pass

    socket = tmp_path / "docker.sock"
    monkeypatch.setenv("DOCKER_HOST", f"unix://{socket}")
    with socketserver.ThreadingUnixStreamServer(str(socket), Handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield answers
        server.shutdown()
        thread.join()


def test_an_engine_its_images_and_its_gpus_are_seen(daemon: dict[str, Any]) -> None:
    said = by_name(containers.docker(about(runtime="docker", image="mine:1")))
    assert said["docker"].ok and said["docker"].said == "Engine 28.2 answers"
    assert said["docker with GPUs"].state == "missing"
    assert said["image recaffe:cpu"].said == "2.5 GB"
    assert said["image mine:1"].state == said["image recaffe:gpu"].state == "missing"
    daemon["info"] = {"Runtimes": {"nvidia": {}}}
    assert by_name(containers.docker(about()))["docker with GPUs"].ok


@pytest.mark.filterwarnings("ignore:Exception ignored in. <socket")
def test_no_engine_and_one_that_hangs_are_told_apart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "silent.sock"
    monkeypatch.setenv("DOCKER_HOST", f"unix://{path}")
    monkeypatch.setattr(containers, "PATIENCE", 0.2)
    (said,) = containers.docker(about())
    assert said.state == "missing" and "No container engine listens" in said.said
    with socketserver.UnixStreamServer(str(path), http.server.BaseHTTPRequestHandler):
        (said,) = containers.docker(about())
    gc.collect()  # the SDK drops a socket that it couldn't connect, with a warning
    assert said.state == "problem" and "timed out" in said.said.lower()


def test_apptainer_and_podman_are_asked_for_their_versions(program: Program) -> None:
    assert by_name(containers.others(about()))["apptainer"].state == "missing"
    program("singularity", "echo singularity-ce version 4.1")
    program("podman", "echo broken >&2; exit 125")
    said = by_name(containers.others(about()))
    assert "singularity-ce version 4.1" in said["apptainer"].said and said["apptainer"].ok
    assert said["podman"].state == "problem" and "broken" in said["podman"].said


def test_a_cluster_is_one_that_answers(program: Program) -> None:
    assert by_name(cluster.check(about()))["SLURM"].state == "missing"
    program("sinfo", "echo 'gpu* 4'", "echo 'long 12'")
    said = by_name(cluster.check(about()))
    assert said["SLURM"].said == "partitions: gpu* (4 nodes), long (12 nodes)"
    assert said["SLURM plugin"].ok
    program("sinfo", "echo 'Unable to contact slurm controller' >&2", "exit 1")
    said = by_name(cluster.check(about()))
    assert said["SLURM"].state == "problem" and "Unable to contact" in said["SLURM"].said
