"""docker/images.sh against a builder that only takes notes: nothing is pulled or built."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from recaffe.config import ROOT

# Knows recaffe:cpu by the key in ./key and fails in `run` if ./broken is there.
DOCKER = """#!/bin/bash
echo "$@" >>calls
case "$1 $2" in
"image inspect") case "$*" in
    *recaffe.key*) [[ $* != *recaffe:cpu* ]] || cat key ;;
    *) echo sha256:base ;;
    esac ;;
"build "*) for word in "$@"; do [[ $word != KEY=* ]] || printf %s "${word#KEY=}" >built; done ;;
"run "*) [[ $* != *selftest* ]] || [ ! -e broken ] ;;
"tag "*) cp built key ;;
esac
"""


class Clone:
    """A copy of what images.sh looks at, and a `docker` on PATH that takes notes."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for name in ("Snakefile", "constraints.txt", "pyproject.toml"):
            shutil.copy(ROOT / name, folder)
        skip = shutil.ignore_patterns("kept", "*.sif", "__pycache__")
        for name in ("config", "docker", "models", "profiles", "recaffe", "rules", "scripts"):
            shutil.copytree(ROOT / name, folder / name, ignore=skip)
        for name in ("caffe", "cpu", "gpu"):
            (folder / "docker" / "kept" / name).mkdir(parents=True)
        program = folder / "bin" / "docker"
        program.parent.mkdir()
        program.write_text(DOCKER, encoding="utf-8")
        program.chmod(0o755)
        (folder / "key").touch()

    def images(self, *targets: str, **more: str) -> tuple[int, str, list[str]]:
        """Exit status, all that it said, and the words that docker heard."""
        (self.folder / "calls").write_text("")
        done = subprocess.run(
            [self.folder / "docker" / "images.sh", *targets],
            env={**os.environ, "PATH": f"{self.folder / 'bin'}:/usr/bin:/bin", "SIF": "0",
                 "BUILDER": "docker", "PIP": "none", "CAFFE": str(self.folder), **more},
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        heard = (self.folder / "calls").read_text().splitlines()
        return done.returncode, done.stdout + done.stderr, [line.split()[0] for line in heard]


@pytest.fixture
def clone(tmp_path: Path) -> Clone:
    return Clone(tmp_path)


def test_an_image_is_built_tried_named_and_then_kept(clone: Clone) -> None:
    status, said, heard = clone.images()
    assert status == 0, said
    assert [h for h in heard if h != "image"] == ["build", "run", "build", "run", "tag", "rmi"]
    status, said, heard = clone.images()
    assert (status, said) == (0, "recaffe:cpu is up to date\n")
    assert set(heard) == {"image"}


@pytest.mark.parametrize("name", ["recaffe/mean.py", "constraints.txt", "docker/caffe/patch.sh"])
def test_a_change_of_what_is_in_it_builds_it_anew(clone: Clone, name: str) -> None:
    clone.images()
    with (clone.folder / name).open("a", encoding="utf-8") as file:
        file.write("# changed\n")
    assert "build" in clone.images()[2]


def test_what_is_not_in_it_builds_nothing(clone: Clone) -> None:
    clone.images()
    (clone.folder / "README.md").write_text("changed")
    (clone.folder / "docker" / "recaffe-cpu.sif").write_text("changed")
    assert "build" not in clone.images()[2]


def test_another_base_builds_it_anew(clone: Clone) -> None:
    clone.images()
    assert "build" in clone.images(TORCH_INDEX="elsewhere")[2]


def test_a_broken_image_never_gets_the_name(clone: Clone) -> None:
    (clone.folder / "broken").touch()
    status, _, heard = clone.images()
    assert status != 0
    assert "tag" not in heard


def test_an_unknown_image_is_refused(clone: Clone) -> None:
    status, said, heard = clone.images("tpu")
    assert (status, said) == (1, "images.sh: the images are cpu and gpu; 'tpu' is none\n")
    assert not heard
