"""Write golden files of every solver with real Caffe 1.0: run by hand, where `caffe` is.

    PATH=/path/to/caffe/bin:$PATH python -m tests.golden.make_solvers

Makes solvers/: for each solver the caffemodel and solverstate of `caffe train` after ten updates
of net.prototxt from start.caffemodel; SGD's also after five, as HDF5; and rates.csv, with what
`caffe train` says of the rate under each policy.
"""

from __future__ import annotations

import csv
import os
import re
import shutil
import subprocess
from pathlib import Path

HERE = Path(__file__).resolve().parent
SOLVERS = HERE / "solvers"
UPDATES = 10
TYPES = {
    "SGD": "base_lr: 0.005 momentum: 0.9 weight_decay: 0.01 clip_gradients: 0.5",
    "Nesterov": 'base_lr: 0.005 momentum: 0.9 weight_decay: 0.001 regularization_type: "L1"',
    "AdaGrad": "base_lr: 0.001 delta: 1e-3 weight_decay: 0.01 iter_size: 2",
    "RMSProp": "base_lr: 0.0005 rms_decay: 0.9 delta: 1e-3 weight_decay: 0.01",
    "AdaDelta": "base_lr: 0.5 momentum: 0.9 delta: 1e-4 weight_decay: 0.01",
    "Adam": "base_lr: 0.0005 momentum: 0.9 momentum2: 0.99 delta: 1e-3 weight_decay: 0.01",
}
POLICIES = {
    "fixed": "",
    "step": "stepsize: 7 gamma: 0.5",
    "exp": "gamma: 0.97",
    "inv": "gamma: 0.01 power: 0.75",
    # The third doesn't rise, the fourth comes with the third.
    "multistep": "gamma: 0.7 stepvalue: 5 stepvalue: 20 stepvalue: 10 stepvalue: 10 stepvalue: 40",
    "poly": "power: 0.9",
    "sigmoid": "gamma: 0.2 stepsize: 25",
}
RATES = 50  # iterations of rates.csv, and poly's max_iter


def solver(kind: str, *, policy: str = "step", updates: int = UPDATES, more: str = "") -> str:
    """The text of a solver of the golden net."""
    return (
        f'net: "net.prototxt" type: "{kind}" {TYPES[kind]} lr_policy: "{policy}" '
        f"{POLICIES[policy]} max_iter: {updates} test_iter: 1 test_interval: 1000 "
        f"test_initialization: false solver_mode: CPU {more}"
    )


def caffe_train(text: str) -> str:
    """Run `caffe train` from the golden weights; returns its log."""
    path = SOLVERS / "solver.prototxt"
    path.write_text(text)
    command = ["caffe", "train", f"--solver={path}", "--weights=start.caffemodel"]
    log = {**os.environ, "GLOG_logtostderr": "1", "GLOG_minloglevel": "0"}
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=log)
    path.unlink()
    return done.stderr


def main() -> None:
    """Make the folder anew."""
    os.chdir(HERE)  # the nets name their sources from here
    shutil.rmtree(SOLVERS, ignore_errors=True)
    SOLVERS.mkdir()
    for kind in TYPES:
        caffe_train(solver(kind, more=f'snapshot_prefix: "solvers/{kind}"'))
    halfway = 'snapshot_prefix: "solvers/SGD" snapshot_format: HDF5'
    caffe_train(solver("SGD", updates=UPDATES // 2, more=halfway))
    rates = {}
    for policy in POLICIES:
        quiet = "display: 1 snapshot_after_train: false"
        log = caffe_train(solver("SGD", policy=policy, updates=RATES, more=quiet))
        rates[policy] = re.findall(r"Iteration \d+, lr = (\S+)", log)
    with (SOLVERS / "rates.csv").open("w", newline="") as file:
        out = csv.writer(file, lineterminator="\n")
        out.writerow(rates)
        out.writerows(zip(*rates.values(), strict=True))
    for lock in HERE.glob("*.lmdb/lock.mdb"):
        lock.unlink()


if __name__ == "__main__":
    main()
