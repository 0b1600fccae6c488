"""Run a written module as its user would: no recaffe on the path, only torch and safetensors.

python -IB run.py MODULE.py CLASS WEIGHTS.safetensors FOLDER

FOLDER holds in0.npz, in1.npz …, the arrays of a call each in order; out0.npz, out1.npz … are written.
"""

import sys
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import ModuleType

import numpy as np
import torch
from safetensors.torch import load_file


def main(source: str, class_name: str, weights: str, folder: str) -> None:
    """Load the net, and call it on each file of inputs."""
    module = ModuleType("converted")
    SourceFileLoader("converted", source).exec_module(module)
    net = getattr(module, class_name)()
    net.load_state_dict(load_file(weights))
    net.eval()
    for file in sorted(Path(folder).glob("in*.npz")):
        with np.load(file) as given, torch.no_grad():
            made = net(*(torch.from_numpy(given[f"arr_{i}"]) for i in range(len(given.files))))
        made = made if isinstance(made, tuple) else (made,)
        np.savez(file.with_name(file.name.replace("in", "out")), *(x.numpy() for x in made))


if __name__ == "__main__":
    main(*sys.argv[1:])
