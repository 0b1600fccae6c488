"""Flags that several subcommands share, and what they stand for."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from recaffe.errors import RecaffeError

if TYPE_CHECKING:
    import torch

    from recaffe.net.shapes import LayerShapes, Shape
    from recaffe.net.weights import Weights
    from recaffe.proto import caffe_pb2 as pb


def add_gpu(parser: argparse.ArgumentParser) -> None:
    """`--gpu`, as Caffe has it."""
    parser.add_argument(
        "--gpu", default="", metavar="ID", help="GPU to use: a number, or all; none: the CPU"
    )


def add_state(parser: argparse.ArgumentParser) -> None:
    """`--level` and `--stage`: which of the net's include and exclude rules hold."""
    parser.add_argument("--level", type=int, default=0, help="the net's level (0)")
    parser.add_argument("--stage", default="", metavar="A,B", help="the net's stages")


def stages(text: str) -> list[str]:
    """`a,b` as a list."""
    return [s for s in text.split(",") if s]


def gpus(text: str) -> list[int] | None:
    """Device numbers; None for `all`. Raises `RecaffeError` for anything else."""
    if text == "all":
        return None
    numbers = [n for n in text.split(",") if n]
    if not all(n.isdecimal() for n in numbers) or len(set(numbers)) < len(numbers):
        raise RecaffeError(f"--gpu {text}: give device numbers such as 0 or 0,1, or all.")
    return [int(n) for n in numbers]


def add_threads(parser: argparse.ArgumentParser) -> None:
    """`--threads`, for the CPU."""
    parser.add_argument(
        "--threads", type=_threads, default=0, help="threads on the CPU (as many as PyTorch takes)"
    )


def _threads(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of threads")
    return int(text)


def positive(text: str) -> int:
    """A flag's value that is a number from 1 on."""
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 1 on")
    return int(text)


def share(text: str) -> float:
    """A flag's value that is a probability."""
    try:
        value = float(text)
    except ValueError:
        value = -1
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a probability from 0 to 1")
    return value


def torch_device(gpu: str, cpu_threads: int) -> torch.device:
    """The device of `--gpu` for a command that uses one, with PyTorch's threads set.

    Raises `TrainError` if there is no such GPU.
    """
    import torch

    from recaffe.allocator import keep_freed_memory
    from recaffe.engines.torch.devices import pick_device

    if cpu_threads > 0:
        torch.set_num_threads(cpu_threads)
    numbers = gpus(gpu)
    if numbers is None:
        return pick_device("cuda")
    if numbers:
        return pick_device(f"cuda:{numbers[0]}")
    keep_freed_memory()
    return pick_device("cpu")


def at_least_one(iterations: int) -> None:
    """Raises `RecaffeError` for --iterations 0 or less."""
    if iterations < 1:
        raise RecaffeError(f"--iterations {iterations}: give at least 1.")


def existing(path: str) -> str:
    """The path of a file that is there; raises `RecaffeError` if it isn't."""
    if not Path(path).is_file():
        raise RecaffeError(f"{path}: there is no such file.")
    return path


def read_net(path: str, level: int = 0, stage: str = "") -> pb.NetParameter:
    """A net file with the command's state; raises `NetError` if it has no layers."""
    from recaffe.errors import NetError
    from recaffe.net import parse

    existing(path)
    net = parse.read_net(path)
    if not net.layer:
        raise NetError(f"{path} has no layers; is it a net's prototxt?")
    net.state.level = level
    net.state.stage.extend(stages(stage))
    return net


def check_has_data(net: pb.NetParameter, phase: str, path: str) -> None:
    """Raises `NetError` for a net that brings no data of its own: a deploy net."""
    from recaffe.errors import NetError
    from recaffe.net import graph
    from recaffe.proto import caffe_pb2 as pb

    layers = graph.of_phase(net, pb.Phase.Value(phase))
    sources = [x for x in layers if x.type in graph.DATA and x.type != "Input"]
    if not sources:
        kind = "it is a deploy net" if any(x.type == "Input" for x in layers) else f"in {phase}"
        raise NetError(f"{path} has no data layer ({kind}). Give the train_val.prototxt instead.")


def add_input(parser: argparse.ArgumentParser) -> None:
    """`--input`, for nets whose data isn't at hand."""
    parser.add_argument(
        "--input", metavar="C,H,W", help="size of the pictures as the net sees them, after any crop"
    )


def input_size(text: str | None) -> tuple[int, int, int] | None:
    """`3,227,227` as numbers; raises `RecaffeError` for anything else."""
    if text is None:
        return None
    try:
        c, h, w = (int(n) for n in text.split(","))
    except ValueError as error:
        raise RecaffeError(f"--input {text}: give C,H,W, such as 3,227,227.") from error
    if min(c, h, w) < 1:
        raise RecaffeError(f"--input {text}: each number must be at least 1.")
    return c, h, w


def walk(net: pb.NetParameter, phase: str, size: tuple[int, int, int] | None) -> list[LayerShapes]:
    """Shapes of a net's phase; raises `NetError` where they can't be known or don't fit."""
    from recaffe.errors import NetError
    from recaffe.net import graph, inputs, shapes
    from recaffe.proto import caffe_pb2 as pb

    layers = graph.of_phase(net, pb.Phase.Value(phase))
    if not layers:
        raise NetError(f"The net {net.name!r} has no layers in the phase {phase}.")
    known = {} if size else _shapes_in_files(net, layers, phase)
    return shapes.walk(layers, inputs.source_shapes(layers, size, known))


def _shapes_in_files(
    net: pb.NetParameter, layers: Sequence[pb.LayerParameter], phase: str
) -> dict[str, Shape]:
    """Tops of the layers that have their sizes from files alone, as far as the files are here."""
    from recaffe.proto import caffe_pb2 as pb

    out: dict[str, Shape] = {}
    for layer in layers:
        pictures = layer.image_data_param
        listed = {
            "HDF5Data": layer.hdf5_data_param.source,
            "ImageData": "" if pictures.new_height else pictures.source,
        }
        if not Path(listed.get(layer.type, "")).is_file():
            continue
        from recaffe.engines.torch.data import Feed  # it imports torch, which takes its time

        alone = pb.NetParameter(name=net.name, layer=[layer])
        state = net.state
        feed = Feed(alone, pb.Phase.Value(phase), 0, level=state.level, stages=tuple(state.stage))
        out |= feed.shapes
    return out


def weights_for(walked: Sequence[LayerShapes], path: str) -> Weights:
    """`weights.of_net` for a path that a user gave; raises `RecaffeError` if there is no such file."""
    from recaffe.net import weights

    return weights.of_net(walked, existing(path))
