"""Train as a solver.prototxt says, from scratch, from weights or from a snapshot.

Snapshots go where the solver's snapshot_prefix says; the log lines are Caffe's and go to stderr.
With several GPUs each takes its share of the net's batch (Caffe multiplies the batch instead).
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from recaffe.augment import NOTHING, Augment
from recaffe.cli import options
from recaffe.errors import ConfigError, RecaffeError

EFFECTS = ("stop", "snapshot", "none")
PRECISIONS = ("fp32", "tf32", "bf16")
LAYOUTS: dict[str, str | bool] = {"auto": "auto", "true": True, "false": False}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The subcommand's flags."""
    parser.add_argument("--solver", required=True, metavar="S", help="a solver.prototxt")
    start = parser.add_mutually_exclusive_group()
    start.add_argument("--weights", metavar="W[,W2]", help="caffemodels to fine-tune from")
    start.add_argument("--snapshot", metavar="X.solverstate", help="training to go on with")
    parser.add_argument(
        "--sigint_effect", choices=EFFECTS, default="stop", help="what Ctrl-C does (stop)"
    )
    parser.add_argument(
        "--sighup_effect", choices=EFFECTS, default="snapshot", help="what SIGHUP does (snapshot)"
    )
    parser.add_argument(
        "--precision", choices=PRECISIONS, default="fp32", help="what it computes in (fp32)"
    )
    parser.add_argument(
        "--micro_batch", type=_micro_batch, default=0, metavar="N",
        help="pictures that a device computes at once, or auto; 0: its whole share (0)",
    )  # fmt: skip
    parser.add_argument(
        "--channels_last", choices=LAYOUTS, default="auto", help="layout of pictures (auto)"
    )
    parser.add_argument("--compile", action="store_true", help="use torch.compile")
    parser.add_argument(
        "--deterministic", action="store_true", help="the same bits in each run, also on a GPU"
    )
    parser.add_argument(
        "--augment", type=_augment, default=NOTHING, metavar="KEY=VALUE,…",
        help="changes of training pictures: rotate=15,scale=0.8:1.25,mixup=0.2 (docs/augmentation.md)",
    )  # fmt: skip
    options.add_gpu(parser)
    options.add_threads(parser)
    options.add_state(parser)


def _augment(text: str) -> Augment:
    try:
        return Augment.parse(text)
    except ConfigError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _micro_batch(text: str) -> int | str:
    if text == "auto":
        return text
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is neither a number of pictures nor auto")
    return int(text)


def main(args: argparse.Namespace) -> int:
    """Train; returns when max_iter is reached."""
    weights = [Path(options.existing(w)) for w in (args.weights or "").split(",") if w]
    solver = Path(options.existing(args.solver))
    resume = Path(options.existing(args.snapshot)) if args.snapshot else None
    device, devices = _devices(args.gpu, solver)
    import torch

    from recaffe.engines.base import TrainJob
    from recaffe.engines.torch.launch import run
    from recaffe.glog import say

    state = tuple(options.stages(args.stage))
    if os.environ.get("RANK", "0") == "0":
        say("Use CPU." if device == "cpu" else f"Using GPUs {args.gpu or 'as the solver says'}")
        if resume is not None:
            say(f"Resuming from {resume}")
        starting = weights or ([] if resume else weights_of_solver(solver))
        if starting:
            say_what_fits(solver, args.level, state, starting)
        say("Starting Optimization")
    run(
        TrainJob(
            solver,
            weights=tuple(weights) or None,
            resume=resume,
            threads=args.threads or torch.get_num_threads(),
            device=device,
            devices=devices,
            level=args.level,
            stages=state,
            precision=args.precision,
            channels_last=LAYOUTS[args.channels_last],
            compile=args.compile,
            deterministic=args.deterministic,
            augment=args.augment,
            micro_batch=args.micro_batch,
            sigint_effect=args.sigint_effect,
            sighup_effect=args.sighup_effect,
        )
    )
    return 0


def weights_of_solver(path: Path) -> list[Path]:
    from recaffe.engines.torch.nets import read_solver
    from recaffe.solver import weights

    return [Path(options.existing(w)) for w in weights(read_solver(path))]


def say_what_fits(solver: Path, level: int, stages: tuple[str, ...], files: list[Path]) -> None:
    """Name the layers that the net or the weights have alone: a typo in a name shows nowhere else.

    Raises `WeightsError` if the two have no layer in common.
    """
    from recaffe.engines.torch.nets import read_solver, train_net
    from recaffe.errors import WeightsError
    from recaffe.glog import say
    from recaffe.net import graph, weights
    from recaffe.proto import caffe_pb2 as pb

    net = train_net(read_solver(solver), level, stages).net
    layers = graph.of_phase(net, pb.TRAIN)
    wanted = {x.name for x in layers if graph.blob_count(x)}
    found: set[str] = set()
    for file in files:
        given = set(weights.read(file, layers))
        for name in sorted(given - wanted):
            say(f"Ignoring source layer {name}", "net.cpp")
        found |= given & wanted
    if not found:
        raise WeightsError(
            f"No layer of {' or '.join(map(str, files))} has a namesake in the net, so nothing would "
            "be copied. Give the net's own weights, or leave --weights out."
        )
    for name in sorted(wanted - found):
        say(f"Layer {name} is in none of the weights: it starts as its fillers say.", "net.cpp")


def _devices(gpu: str, solver: Path) -> tuple[str, int]:
    """The device, and how many of them train together.

    Without --gpu the solver's solver_mode decides, as in Caffe, but a solver that says GPU trains
    on the CPU where there is none: most published ones do.
    """
    import torch

    several = "RANK" in os.environ  # torchrun started this process as one of several
    numbers = options.gpus(gpu)
    if numbers == []:
        device = device_of_solver(solver)
        return (device.split(":")[0] if several else device), 1  # each takes its own of the GPUs
    if numbers is not None and len(numbers) == 1 and not several:
        return f"cuda:{numbers[0]}", 1
    there = torch.cuda.device_count()
    numbers = list(range(there)) if numbers is None else numbers
    if not numbers or max(numbers) >= there:
        raise RecaffeError(
            f"--gpu {gpu}: PyTorch sees {there} GPUs here. Leave --gpu out to use the CPU."
        )
    # The processes that train take the first GPUs that they see.
    names = os.environ.get("CUDA_VISIBLE_DEVICES", ",".join(map(str, range(there)))).split(",")
    os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(names[n] for n in numbers)
    return "cuda", 1 if several else len(numbers)


def device_of_solver(path: Path) -> str:
    import torch

    from recaffe.engines.torch.nets import read_solver
    from recaffe.glog import say
    from recaffe.proto import caffe_pb2 as pb

    p = read_solver(path)
    if not p.HasField("solver_mode") or p.solver_mode == pb.SolverParameter.CPU:
        return "cpu"
    if torch.cuda.is_available():
        return f"cuda:{max(0, p.device_id)}"
    if os.environ.get("RANK", "0") == "0":
        say("solver_mode is GPU, but PyTorch sees no GPU here: using the CPU.")
    return "cpu"
