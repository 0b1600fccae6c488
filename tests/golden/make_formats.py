"""Write formats/ with real Caffe 1.0's own tools and pycaffe: run by hand, where they are.

    . /path/to/caffe/env.sh; python -m tests.golden.make_formats

The .prototxt files there are written by hand. This adds caffemodels with every layer type and field
of 2013 and 2014, what Caffe's upgrade tools make of all of them (upgraded_*), and weights and
solverstates in HDF5 and binary as `caffe train` writes them.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from recaffe.net.upgrade import v0, v1
from recaffe.proto import caffe_pb2 as pb

HERE = Path(__file__).resolve().parent / "formats"
TEXTS = ("v0", "v1", "v1_deploy", "v2")
TRAINED = """
name: "shared"
layer { name: "data" type: "DummyData" top: "data" top: "label"
  dummy_data_param { shape { dim: 4 dim: 5 } shape { dim: 4 }
    data_filler { type: "gaussian" } data_filler { type: "constant" value: 1 } } }
layer { name: "left" type: "InnerProduct" bottom: "data" top: "left"
  param { name: "w" } param { name: "b" }
  inner_product_param { num_output: 3 weight_filler { type: "xavier" } } }
layer { name: "right" type: "InnerProduct" bottom: "data" top: "right"
  param { name: "w" } param { lr_mult: 2 }
  inner_product_param { num_output: 3 weight_filler { type: "xavier" }
    bias_filler { type: "constant" value: 0.5 } } }
layer { name: "twin" type: "InnerProduct" bottom: "data" top: "twin"
  param { name: "w" } param { name: "b" } inner_product_param { num_output: 3 } }
layer { name: "sum" type: "Eltwise" bottom: "left" bottom: "right" bottom: "twin" top: "sum" }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "sum" bottom: "label" top: "loss" }
"""
SOLVER = """
net: "shared.prototxt" type: "Adam" base_lr: 0.01 momentum: 0.9 momentum2: 0.99 lr_policy: "step"
gamma: 0.5 stepsize: 2 max_iter: 5 snapshot: 5 snapshot_prefix: "shared" random_seed: 3
solver_mode: CPU display: 0
"""


def full(message: Any, skip: tuple[str, ...] = ()) -> None:
    """Set every field of a message, each to a value of its own."""
    for f in message.DESCRIPTOR.fields:
        if f.name in skip:
            continue
        if f.message_type is not None:
            full(getattr(message, f.name).add() if f.is_repeated else getattr(message, f.name))
        else:
            value: Any = f.number + 1
            if f.enum_type is not None:
                value = f.enum_type.values[-1].number
            elif f.type in (f.TYPE_FLOAT, f.TYPE_DOUBLE):
                value = f.number / 3
            elif f.type == f.TYPE_BOOL:
                value = not f.default_value
            elif f.type == f.TYPE_STRING:
                value = f'{f.name} "ü"'
            if f.is_repeated:
                getattr(message, f.name).extend([value, value])
            else:
                setattr(message, f.name, value)


def all_v0() -> pb.NetParameter:
    """Each layer type of 2013, with every field, most of which don't fit it."""
    net = pb.NetParameter(name="every type of 2013", force_backward=True)
    for kind in v0.TYPES:
        layer = net.layers.add(top=[kind])
        full(layer.layer, skip=("blobs",))
        layer.layer.type = kind
    return net


def all_v1() -> pb.NetParameter:
    """Each layer type of 2014, and each of its fields."""
    net = pb.NetParameter(name="every type of 2014", debug_info=True)
    fields = [f.name for f in pb.V1LayerParameter.DESCRIPTOR.fields]
    fields = [f for f in fields if f not in ("blobs", "layer", "type")]
    for i, kind in enumerate(v1.TYPES):
        layer = net.layers.add()
        used = {fields[i % len(fields)], v1.TRANSFORMED.get(kind)}
        full(layer, skip=tuple(f.name for f in layer.DESCRIPTOR.fields if f.name not in used))
        layer.type = pb.V1LayerParameter.LayerType.Value(kind)
    return net


def with_blobs(net: pb.NetParameter) -> pb.NetParameter:
    """The net as a caffemodel: legacy shapes, new shapes and doubles."""
    rng = np.random.default_rng(0)
    for layer in net.layers:
        blobs = layer.layer.blobs if layer.HasField("layer") else layer.blobs
        values = rng.normal(size=6)
        blobs.add(num=1, channels=2, height=3, width=1).data.extend(values)
        one = blobs.add()
        one.shape.dim.extend((3, 2))
        one.double_data.extend(values)
        one.double_diff.extend(values)
    return net


def run(*command: str, cwd: Path = HERE, problems: bool = False) -> None:
    """Run a tool of Caffe's; with `problems`, it reports fields that don't fit."""
    done = subprocess.run(command, cwd=cwd, check=False, capture_output=True, text=True)
    assert done.returncode == problems, (command, done.stderr)


def main() -> None:
    """Write all files."""
    for name, net in (("all_v0", all_v0()), ("all_v1", all_v1())):
        data = with_blobs(net).SerializeToString(deterministic=True)
        (HERE / f"{name}.caffemodel").write_bytes(data)
        files = (f"{name}.caffemodel", f"upgraded_{name}.caffemodel")
        run("upgrade_net_proto_binary", *files, problems=name == "all_v0")
    for name in TEXTS:
        old, new = f"{name}.prototxt", f"upgraded_{name}.prototxt"
        run("upgrade_net_proto_text", old, new, problems=name == "v0")
    run("upgrade_solver_proto_text", "solver.prototxt", "upgraded_solver.prototxt")
    (HERE / "shared.prototxt").write_text(TRAINED, encoding="utf-8")
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        shutil.copy(HERE / "shared.prototxt", folder)
        for form, end in (("HDF5", ".h5"), ("BINARYPROTO", "")):
            text = f"{SOLVER} snapshot_format: {form}"
            (folder / "solver.prototxt").write_text(text, encoding="utf-8")
            run("caffe", "train", "--solver=solver.prototxt", cwd=folder)
            for name in (f"caffemodel{end}", f"solverstate{end}"):
                shutil.copy(folder / f"shared_iter_5.{name}", HERE / f"shared.{name}")


if __name__ == "__main__":
    main()
