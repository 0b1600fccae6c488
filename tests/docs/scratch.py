"""A copy of the clone in which the pages' commands run, with pictures to run them on.

The pictures are small and few, and each config that comes into being trains for one epoch; otherwise the
commands do here what they do for a reader.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import torch

from recaffe import config
from recaffe.config import ROOT
from recaffe.files import write_text
from recaffe.lmdb import read
from recaffe.net import prototxt
from recaffe.net.deploy import deploy
from tests import torch_nets
from tests.conftest import save, texture
from tests.docs.pages import Block

EPOCHS = 1
TIMEOUT = 600
# Files that pages speak of, and where they come from as soon as that is there.
SPOKEN_OF = {
    "train.log": "results/pets/finetune/train.log",
    "pets-model": "results/pets/finetune/model",
    "my.yaml": "config/pets.yaml",
    "warped.lmdb": "tests/golden/warped.lmdb",
    "mean.binaryproto": "tests/golden/mean.binaryproto",
    "final.caffemodel": "tests/golden/trained_iter_12.caffemodel",
    "bvlc_reference_caffenet.caffemodel": "tests/golden/start.caffemodel",
    "vgg16_of_2014.caffemodel": "tests/golden/formats/all_v1.caffemodel",
    "old_deploy.prototxt": "tests/golden/formats/v1_deploy.prototxt",
    "rex.jpg": "new_pictures/2.jpg",
    "more/rex.jpg": "new_pictures/2.jpg",
    "new": "new_pictures",
    "photos": "new_pictures",
}
# Weights of torchvision's, without what they have learned: a hundred megabytes, for the pages that want them.
STATE = "resnet50.pth"
SOLVER = """net: "train_val.prototxt"
base_lr: 0.001
lr_policy: "fixed"
momentum: 0.9
max_iter: 1010
display: 500
snapshot: 1000
snapshot_prefix: "caffenet"
"""


def clone(folder: Path) -> Path:
    """What git has or would take of this working tree, with pictures; packages of weights that are here aren't
    fetched again."""
    listed = subprocess.run(
        ["git", "ls-files", "-coz", "--exclude-standard"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
    (folder / ".venv").symlink_to(ROOT / ".venv")
    for package in (ROOT / "resources" / "packages").glob("*"):
        if package.name in _packages_of_weights():
            (folder / "resources" / "packages").mkdir(parents=True, exist_ok=True)
            shutil.copy2(package, folder / "resources" / "packages")
    for hue, name in enumerate(("cats", "dogs")):
        for i in range(25):
            save(texture(1000 * hue + i, hue, (72, 64)), folder / "pictures" / name / f"{i}.jpg")
    for i in range(4):
        save(texture(5000 + i, i % 2, (72, 64)), folder / "new_pictures" / f"{i}.jpg")
    write_text(folder / "solver.prototxt", SOLVER)
    golden = ROOT / "tests" / "golden"
    # Two processes can share a batch of 6.
    text = (
        (golden / "net.prototxt")
        .read_text(encoding="utf-8")
        .replace("batch_size: 7", "batch_size: 6")
    )
    write_text(folder / "train_val.prototxt", text)
    net = prototxt.parse(text)
    shape = read.describe(golden / "warped.lmdb")["shape"]
    write_text(folder / "deploy.prototxt", deploy(net, shape).render())
    return folder


def _packages_of_weights() -> set[str]:
    cards = [config.model_card(file.parent.name) for file in config.MODELS.glob("*/model.yaml")]
    return {card["weights"]["package"] for card in cards if "weights" in card}


def copy(folder: Path, to: Path) -> Path:
    """The same place once more, dates and links included."""
    subprocess.run(["cp", "-a", "--reflink=auto", str(folder), str(to)], check=True)
    return to


def perform(block: Block, folder: Path) -> None:
    """Write the block's file or run its commands in `folder`; fails with what they said."""
    _bring(folder)
    if STATE in block.text and not (folder / STATE).exists():
        torch.save(torch_nets.net("torchvision:resnet50", 1000).state_dict(), folder / STATE)
    if target := block.target:
        write_text(folder / target, f"{block.text}\n")
    elif block.language == "python":
        _run(block, folder, ["python", "-c", block.text])
    else:
        *before, last = block.commands()
        # A command after another runs only if that ended well; the last one's status is the block's.
        script = "\n".join(["set -e -o pipefail", *before, "set +e", last])
        _run(block, folder, ["bash", "-c", script])
    for file in folder.glob("config/**/*.yaml"):
        if not (ROOT / file.relative_to(folder)).exists():
            text = file.read_text(encoding="utf-8")
            write_text(file, re.sub(r"\bepochs: \d+", f"epochs: {EPOCHS}", text))


def _run(block: Block, folder: Path, command: list[str]) -> None:
    try:
        done = subprocess.run(
            command, cwd=folder, env=environment(folder), stdin=subprocess.DEVNULL,
            capture_output=True, text=True, timeout=TIMEOUT, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired as error:
        raise AssertionError(f"{block.where} took over {TIMEOUT} s:\n{block.text}") from error
    said = f"{block.where} ended with {done.returncode}:\n{block.text}\n{done.stdout}{done.stderr}"
    assert done.returncode == block.status, said
    assert "Traceback" not in done.stderr, said


def environment(folder: Path) -> dict[str, str]:
    """A reader's: nothing of this machine's Caffe or caches, programs of the clone's .venv first."""
    kept = {
        key: value
        for key, value in os.environ.items()
        if not key.startswith(("CAFFE", "RECAFFE", "PYTEST"))
    }
    return kept | {
        "PATH": f"{folder}/.venv/bin{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(folder),
        "XDG_CACHE_HOME": str(folder / "build" / "cache"),
    }


def _bring(folder: Path) -> None:
    for name, source in SPOKEN_OF.items():
        if (folder / source).exists() and not (folder / name).exists():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            subprocess.run(["cp", "-a", str(folder / source), str(folder / name)], check=True)
