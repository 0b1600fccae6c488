"""The images that the tests are about, brought up to date by docker/images.sh: a no-op after `make images`.

RECAFFE_SIF, RECAFFE_IMAGE_TAR: take these instead, as they are.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from recaffe.config import ROOT

NAME = "recaffe:cpu"


def run(command: Sequence[str | Path], **options: Any) -> str:
    """What a command printed; fails with all of it if it didn't end well."""
    done = subprocess.run(command, capture_output=True, text=True, check=False, **options)
    assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
    return done.stdout


class Builder:
    """docker, podman or buildah, by docker/builders.sh."""

    def __init__(self) -> None:
        self.name = self.words("pick_builder && echo $builder", picked=False).strip()

    def words(self, line: str, picked: bool = True) -> str:
        """Run a line in which builders.sh's words may stand."""
        first = f"builder={self.name}; " if picked else ""
        return run(
            ["bash", "-euo", "pipefail", "-c", f". docker/builders.sh; {first}{line}"], cwd=ROOT
        )


@pytest.fixture(scope="session")
def builder() -> Builder:
    """What builds images here."""
    if not any(map(shutil.which, ("docker", "podman", "buildah"))):
        pytest.skip(
            "NO IMAGES HERE: nothing of them was tested. It takes docker, podman or buildah "
            "(Debian: apt-get install buildah)."
        )
    return Builder()


@pytest.fixture(scope="session")
def image(builder: Builder) -> Builder:
    """The builder, with recaffe:cpu up to date."""
    run(["docker/images.sh", "cpu"], cwd=ROOT)
    return builder


@pytest.fixture(scope="session")
def sif(request: pytest.FixtureRequest) -> Path:
    """recaffe's CPU image for Apptainer."""
    if not shutil.which("apptainer"):
        pytest.skip(
            "NO APPTAINER HERE: nothing was run in a SIF. On Debian 12, as root: docker/apptainer.sh"
        )
    if given := os.environ.get("RECAFFE_SIF"):
        return Path(given).absolute()
    request.getfixturevalue("image")
    return ROOT / "docker" / "recaffe-cpu.sif"


@pytest.fixture(scope="session")
def archive(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """recaffe:cpu as `docker save` writes it, for an engine that hasn't got it."""
    if given := os.environ.get("RECAFFE_IMAGE_TAR"):
        return Path(given).absolute()
    builder = request.getfixturevalue("image")
    file = tmp_path_factory.mktemp("archive") / "recaffe-cpu.tar"
    builder.words(f"image_save {NAME} {file}")
    return file


@pytest.fixture(scope="session")
def marker(sif: Path) -> dict[str, Any]:
    """What the image says of itself."""
    text = run(["apptainer", "exec", sif, "cat", "/etc/recaffe-image"])
    found: dict[str, Any] = json.loads(text)
    return found
