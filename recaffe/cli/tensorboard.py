"""A training's log as TensorBoard's event files: of `recaffe train` or of Caffe itself.

With --follow it goes on while the log grows, until that says that the training has ended.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from recaffe.cli import options

_SECONDS_BETWEEN_LOOKS = 1.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The subcommand's flags."""
    parser.add_argument("log", metavar="LOG", help="what the training says on stderr, in a file")
    parser.add_argument("folder", metavar="FOLDER", help="where the event files go")
    parser.add_argument(
        "--batch", type=int, default=0, metavar="N",
        help="pictures that an iteration takes in; without it there is no images_per_second",
    )  # fmt: skip
    parser.add_argument("--follow", action="store_true", help="go on while the log grows")


def main(args: argparse.Namespace) -> int:
    """Write what the log says."""
    from recaffe import extras

    extras.need("tensorboard", "Writing its files", "track")
    from recaffe.track.log import Log, numbers_of
    from recaffe.track.tensorboard import TensorBoard

    log = Log(Path(options.existing(args.log)), max(args.batch, 0))
    board, points = TensorBoard(Path(args.folder), {}, {}), 0
    status = "KILLED"
    try:
        while True:
            for when, event in log.read():
                board.see(event, when)
                points += len(numbers_of(event))
            if log.is_over or not args.follow:
                break
            time.sleep(_SECONDS_BETWEEN_LOOKS)
        for when, event in log.finish():
            board.see(event, when)
            points += len(numbers_of(event))
        status = "FINISHED"
    finally:
        board.close(status)
    print(f"{points} numbers of {args.log} are in {args.folder}", file=sys.stderr)
    if not points:
        print(
            "recaffe: none of its lines are of a training. Is it a log of Caffe's?", file=sys.stderr
        )
    return 0 if points else 1
