"""A Docker engine for the tests: the machine's, or a daemon of their own that ends with them."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import tarfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from docker.client import DockerClient
from docker.errors import ImageNotFound

# Kept from one run of the tests to the next, with the image that was loaded into it.
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
FOLDER = CACHE / "recaffe" / "docker"


@contextmanager
def engine() -> Iterator[str | None]:
    """The DOCKER_HOST of an engine that answers; None where there is none and none can be started."""
    for host in (os.environ.get("DOCKER_HOST"), "unix:///var/run/docker.sock"):
        if host and _answers(host):
            yield host
            return
    if os.geteuid() != 0 or not shutil.which("dockerd"):
        yield None
        return
    with _daemon() as host:
        yield host


def load(client: DockerClient, archive: Path, name: str) -> None:
    """Have the image of an archive (`docker save`) under that name, loaded only if it isn't there."""
    with tarfile.open(archive) as tar:
        manifest = tar.extractfile("manifest.json")
        assert manifest is not None
        # The image's number is the digest of its config, by which the file is named.
        digest = Path(json.load(manifest)[0]["Config"]).stem
    try:
        image = client.images.get(f"sha256:{digest}")
    except ImageNotFound:
        with archive.open("rb") as file:
            image, *_ = client.images.load(file)  # once for each of its names
        client.images.prune({"dangling": True})  # the one before it
    image.tag(*name.split(":"))


@contextmanager
def _daemon() -> Iterator[str]:
    """A dockerd without a network of its own, which no container of these tests needs."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    host = f"unix://{FOLDER}/docker.sock"
    (FOLDER / "pid").unlink(missing_ok=True)
    with (FOLDER / "dockerd.log").open("w") as log:
        process = subprocess.Popen(
            [
                "dockerd", "--data-root", str(FOLDER / "data"), "--exec-root", str(FOLDER / "exec"),
                "-H", host, "--pidfile", str(FOLDER / "pid"),
                "--iptables=false", "--ip6tables=false", "--bridge=none",
            ],
            stdout=log, stderr=log, start_new_session=True,
        )  # fmt: skip
    try:
        while not _answers(host):
            if process.poll() is not None:
                raise RuntimeError((FOLDER / "dockerd.log").read_text()[-2000:])
            time.sleep(0.1)
        yield host
    finally:
        process.send_signal(signal.SIGTERM)  # it ends its containers and its containerd
        with suppress(subprocess.TimeoutExpired):
            process.wait(60)
        process.kill()
        # It leaves this mounted, and so the folder can't be removed.
        subprocess.run(
            ["umount", FOLDER / "exec" / "netns" / "default"],
            check=False,
            stderr=subprocess.DEVNULL,
        )


def _answers(host: str) -> bool:
    scheme, _, path = host.partition("://")
    if scheme != "unix":
        return False  # another machine's engine doesn't see this one's files
    with socket.socket(socket.AF_UNIX) as s:
        s.settimeout(10)
        try:
            s.connect(path)
            s.sendall(b"GET /_ping HTTP/1.0\r\n\r\n")
            return b" 200 " in s.recv(100)
        except OSError:
            return False
