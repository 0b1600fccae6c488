"""Find a learning rate: train for a few iterations at growing rates (lr range test).

The net, data and kind of solver are those of solver.prototxt; nothing that a training has written is
touched. OUT.csv has the loss at each rate, OUT.svg shows it, and OUT.json has the proposed base_lr.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from recaffe.cli import options
from recaffe.errors import RecaffeError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The subcommand's flags."""
    parser.add_argument("--solver", required=True, metavar="S", help="a solver.prototxt")
    parser.add_argument("--weights", metavar="W[,W2]", help="caffemodels to fine-tune from")
    parser.add_argument("--min", type=float, default=1e-6, metavar="R", help="first rate (1e-6)")
    parser.add_argument("--max", type=float, default=1.0, metavar="R", help="last rate (1)")
    parser.add_argument("--iterations", type=int, default=100, metavar="N", help="rates (100)")
    parser.add_argument(
        "--out", metavar="OUT", help="what the files are called (the solver's name and _lr_range)"
    )
    options.add_gpu(parser)
    options.add_threads(parser)
    options.add_state(parser)


def main(args: argparse.Namespace) -> int:
    """Test the rates; returns 1 where none can be proposed."""
    from recaffe.rate_range import Span, plan

    span = Span(args.min, args.max, args.iterations)
    solver = Path(options.existing(args.solver))
    weights = [Path(options.existing(w)) for w in (args.weights or "").split(",") if w]
    stem = Path(args.out) if args.out else solver.with_name(f"{solver.stem}_lr_range")
    if not stem.parent.is_dir():
        raise RecaffeError(f"--out {stem}: there is no folder {stem.parent}.")
    import torch

    from recaffe.cli import train
    from recaffe.engines import range_jobs
    from recaffe.engines.base import TrainJob
    from recaffe.engines.torch.nets import read_solver
    from recaffe.files import write_text
    from recaffe.report import figures
    from recaffe.tables import rows

    device = options.torch_device(args.gpu, args.threads) if args.gpu else None
    state = tuple(options.stages(args.stage))
    if starting := weights or train.weights_of_solver(solver):
        train.say_what_fits(solver, args.level, state, starting)
    job = TrainJob(
        solver,
        weights=tuple(weights) or None,
        threads=args.threads or torch.get_num_threads(),
        device=str(device) if device is not None else train.device_of_solver(solver),
        level=args.level,
        stages=state,
        title="lr range",
    )
    note = range_jobs.write(stem, job, plan(read_solver(solver), span), span)
    curve = figures.lr_range("curve", rows(stem.with_name(f"{stem.name}.csv")), note)
    write_text(stem.with_name(f"{stem.name}.svg"), figures.on_its_own(curve))
    range_jobs.tell_of(note, job.title)
    print(f"{stem}.csv {stem}.svg {stem}.json")
    return 0 if note["base_lr"] is not None else 1
