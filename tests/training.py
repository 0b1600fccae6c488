"""A small training as a Caffe user has it: records, a net, a solver, on their own."""

from __future__ import annotations

from pathlib import Path

import lmdb
import numpy as np

from recaffe.proto import caffe_pb2 as pb

SIZE, CLASSES = 12, 3

NET = """
name: "small"
layer {{ name: "data" type: "Data" top: "data" top: "label" include {{ phase: TRAIN }}
  data_param {{ source: "{train}" batch_size: {batch} backend: LMDB }}
  transform_param {{ crop_size: 10 mirror: true scale: 0.01 mean_value: 100 }} }}
layer {{ name: "data" type: "Data" top: "data" top: "label" include {{ phase: TEST }}
  data_param {{ source: "{val}" batch_size: 5 backend: LMDB }}
  transform_param {{ crop_size: 10 scale: 0.01 mean_value: 100 }} }}
layer {{ name: "conv" type: "Convolution" bottom: "data" top: "conv" param {{ lr_mult: 1 }} param {{ lr_mult: 2 }}
  convolution_param {{ num_output: 6 kernel_size: 3 weight_filler {{ type: "msra" }} }} }}
layer {{ name: "relu" type: "ReLU" bottom: "conv" top: "conv" }}
layer {{ name: "pool" type: "Pooling" bottom: "conv" top: "pool" pooling_param {{ pool: MAX kernel_size: 2 stride: 2 }} }}
{middle}
layer {{ name: "drop" type: "Dropout" bottom: "pool" top: "pool" dropout_param {{ dropout_ratio: {drop} }} }}
layer {{ name: "aux" type: "InnerProduct" bottom: "pool" top: "aux"
  inner_product_param {{ num_output: 3 weight_filler {{ type: "xavier" }} }} }}
layer {{ name: "aux_loss" type: "SoftmaxWithLoss" bottom: "aux" bottom: "label" top: "aux_loss" loss_weight: 0.3 {loss} }}
layer {{ name: "fc" type: "InnerProduct" bottom: "pool" top: "fc"
  inner_product_param {{ num_output: 3 weight_filler {{ type: "xavier" }} }} }}
layer {{ name: "loss" type: "SoftmaxWithLoss" bottom: "fc" bottom: "label" top: "loss" {loss} }}
{accuracy}
"""
ACCURACY = """layer { name: "accuracy" type: "Accuracy" bottom: "fc" bottom: "label" top: "accuracy"
  include { phase: TEST } }"""
BATCH_NORM = 'layer { name: "bn" type: "BatchNorm" bottom: "pool" top: "pool" }'
IGNORE = "loss_param { ignore_label: 2 }"
SOLVER = """
net: "{net}"
test_iter: 3 test_interval: 8
base_lr: 0.05 lr_policy: "fixed" momentum: 0.9 weight_decay: 0.001
display: 4 average_loss: 4 max_iter: 16 random_seed: 3 snapshot: 8 snapshot_prefix: "{prefix}"
"""


def write_records(path: Path, count: int, seed: int) -> None:
    """An LMDB of noisy uint8 pictures, 3×12×12, whose classes differ in one channel's brightness."""
    rng = np.random.default_rng(seed)
    with lmdb.open(str(path), map_size=2**24) as env, env.begin(write=True) as txn:
        for i in range(count):
            label = int(rng.integers(CLASSES))
            pixels = rng.integers(0, 200, (3, SIZE, SIZE), dtype=np.uint8)
            pixels[label] = np.minimum(255, pixels[label].astype(int) + 50)
            datum = pb.Datum(
                channels=3, height=SIZE, width=SIZE, data=pixels.tobytes(), label=label
            )
            txn.put(f"{i:08d}".encode(), datum.SerializeToString())


def write_training(
    folder: Path,
    *,
    batch: int = 8,
    drop: float = 0.4,
    middle: str = "",
    loss: str = "",
    accuracy: str = ACCURACY,
    **solver: str | float,
) -> Path:
    """Records (46 and 13), net.prototxt and solver.prototxt; keys of `solver` come on top.

    Returns the solver's path.
    """
    folder.mkdir(exist_ok=True, parents=True)
    for name, count, seed in (("train", 46, 0), ("val", 13, 1)):
        if not (folder / name).exists():
            write_records(folder / name, count, seed)
    net = NET.format(
        train=folder / "train", val=folder / "val", batch=batch, drop=drop, middle=middle,
        loss=loss, accuracy=accuracy,
    )  # fmt: skip
    (folder / "net.prototxt").write_text(net)
    text = SOLVER.format(net=folder / "net.prototxt", prefix=folder / "snap")
    for key, value in solver.items():
        lines = text.replace(" lr_policy", "\nlr_policy").split()
        at = [i for i, word in enumerate(lines) if word == f"{key}:"]
        for i in reversed(at):
            del lines[i : i + 2]
        text = " ".join(lines)
        if value != "":
            text += f" {key}: {value}"
    (folder / "solver.prototxt").write_text(text)
    return folder / "solver.prototxt"
