"""Write the golden files with real Caffe 1.0's own tools: run by hand, where `convert_imageset` is.

    PATH=/path/to/caffe/bin:$PATH python -m tests.golden.make

Makes warped.lmdb/, gray.lmdb/ and mean.binaryproto here, from pictures that the script makes too;
and start.caffemodel, trained by `caffe train` with solver.prototxt to trained_iter_12.caffemodel.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import numpy as np

from recaffe.net import weights
from recaffe.net.parse import read_net
from recaffe.net.prepare import walk_train
from tests.conftest import save, texture

HERE = Path(__file__).resolve().parent
SIZES = [(40, 32), (24, 20), (7, 90), (200, 150), (25, 21), (1, 1), (48, 40)]
WIDTH, HEIGHT = 24, 20


def pictures(folder: Path) -> list[str]:
    """Save the pictures as PNG, which all decoders read alike; returns their names."""
    names = [f"picture {i}.png" for i in range(len(SIZES))]
    for i, (name, size) in enumerate(zip(names, SIZES, strict=True)):
        save(texture(i, size=size), folder / name)
    return names


def main() -> None:
    """Run convert_imageset and compute_image_mean."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        names = pictures(folder)
        (folder / "list.txt").write_text("".join(f"{n} {i % 3}\n" for i, n in enumerate(names)))
        size = [f"--resize_width={WIDTH}", f"--resize_height={HEIGHT}"]
        for name, options in (("warped", []), ("gray", ["--gray"])):
            out = HERE / f"{name}.lmdb"
            shutil.rmtree(out, ignore_errors=True)
            subprocess.run(
                ["convert_imageset", *size, *options, f"{folder}/", f"{folder}/list.txt", str(out)],
                check=True,
            )
        mean = str(HERE / "mean.binaryproto")
        subprocess.run(["compute_image_mean", str(HERE / "warped.lmdb"), mean], check=True)
    train()
    for lock in HERE.glob("*.lmdb/lock.mdb"):
        lock.unlink()


def train() -> None:
    """Twelve updates by real Caffe, each over all seven records, so that no chance is involved."""
    rng = np.random.default_rng(0)
    layers = []
    for s in walk_train(read_net(HERE / "net.prototxt"), (3, HEIGHT, WIDTH), len(SIZES)):
        if s.params:
            blobs = [rng.normal(0, 0.1, shape).astype(np.float32) for shape, _ in s.params]
            layers.append((s.layer.name, s.layer.type, blobs))
    weights.write(weights.to_net("golden", layers), HERE / "start.caffemodel")
    os.chdir(HERE)  # the nets name their sources from here
    subprocess.run(
        ["caffe", "train", "--solver=solver.prototxt", "--weights=start.caffemodel"], check=True
    )


if __name__ == "__main__":
    main()
