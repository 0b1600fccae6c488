"""A web page and a JSON API on this machine that classify pictures by a model of the workflow.

Pictures are dropped on the page, or sent by programs to /api/predict (/docs says how); they are prepared
exactly as in training and by `recaffe predict`, and kept nowhere. Only this machine can reach it, unless
--host says otherwise. Ctrl-C ends it.
"""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path

from recaffe.cli import options


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The subcommand's flags."""
    number, share = options.positive, options.share
    parser.add_argument("model", metavar="MODEL", type=Path, help="the model's folder")
    parser.add_argument(
        "--host", default="127.0.0.1", metavar="H", help="address to listen at (127.0.0.1)"
    )
    parser.add_argument(
        "--port", type=_port, default=8000, metavar="N", help="its port; 0 is any (8000)"
    )
    parser.add_argument(
        "--threshold",
        type=share,
        default=0.0,
        metavar="P",
        help="answers of a lower probability are marked as unsure, unless a request says another (none are)",
    )
    parser.add_argument(
        "--max-mb", type=number, default=25, metavar="N", help="MiB of a request (25)"
    )
    parser.add_argument(
        "--max-pictures", type=number, default=16, metavar="N", help="pictures of a request (16)"
    )
    parser.add_argument(
        "--max-pixels",
        type=number,
        default=50_000_000,
        metavar="N",
        help="pixels of a picture; the model's own limit holds as well (50000000)",
    )
    parser.add_argument(
        "--queue", type=number, default=64, metavar="N", help="pictures that may wait (64)"
    )
    parser.add_argument(
        "--rate",
        type=_rate,
        default=10.0,
        metavar="R",
        help="requests a second of one client; 0 is any (10)",
    )
    parser.add_argument(
        "--timeout", type=number, default=60, metavar="S", help="seconds for an answer (60)"
    )
    parser.add_argument(
        "--batch-size",
        type=number,
        default=0,
        metavar="N",
        help="pictures at once (as many as in the test)",
    )
    parser.add_argument(
        "--device", default="auto", metavar="D", help="auto, cpu, cuda, or one GPU: cuda:1"
    )
    options.add_threads(parser)  # fmt: skip


def main(args: argparse.Namespace) -> int:
    """Serve until Ctrl-C."""
    from recaffe.extras import need

    for package in ("fastapi", "uvicorn", "python_multipart"):
        need(package, "recaffe serve", "serve")
    from recaffe.model import folder

    model = folder.read(args.model)
    from recaffe.serve import Limits
    from recaffe.serve.listen import listening

    limits = Limits(
        body=args.max_mb * 2**20, pictures=min(args.max_pictures, args.queue), pixels=args.max_pixels,
        queue=args.queue, rate=args.rate, burst=max(1, round(5 * args.rate)), timeout=args.timeout,
    )  # fmt: skip
    with listening(args.host, args.port) as listener:
        from recaffe.model.classifier import Classifier
        from recaffe.serve.run import serve

        load = partial(Classifier, model, args.batch_size, args.threads, args.device)
        serve(model, load, args.host, listener, limits, args.threshold)
    return 0


def _port(text: str) -> int:
    if not text.isdecimal() or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is not a port, 0 to 65535")
    return int(text)


def _rate(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1
    if not 0 <= value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of requests a second")
    return value
