"""Classify pictures by a model that the workflow made: results/DATASET/RUN/model, or a copy of it.

Pictures are files, folders (with all that is in them) and - for a list on stdin, one name a line. They
are prepared exactly as in training. A table goes to a terminal, CSV elsewhere. What can't be read as a
picture is named on stderr and passed over; the status is then 3, and 1 if nothing is left.
"""

from __future__ import annotations

import argparse
import os
import sys
from contextlib import redirect_stdout
from pathlib import Path

from recaffe.cli import options

SKIPPED = 3  # the status where some pictures have no answer


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The subcommand's flags."""
    parser.add_argument("model", metavar="MODEL", type=Path, help="the model's folder")
    parser.add_argument(
        "pictures", metavar="PICTURE", nargs="+", help="files, folders, or - for a list on stdin"
    )
    parser.add_argument(
        "--top", type=options.positive, default=3, metavar="K", help="classes to name (3)"
    )
    parser.add_argument(
        "--threshold", type=options.share, default=0.0, metavar="P",
        help="answers of a lower probability are marked as unsure (none are)",
    )  # fmt: skip
    parser.add_argument("--format", choices=("table", "csv", "jsonl"), help="what is printed")
    parser.add_argument(
        "--batch-size", type=options.positive, default=0, metavar="N",
        help="pictures at once (as many as in the test)",
    )  # fmt: skip
    parser.add_argument(
        "--device", default="auto", metavar="D", help="auto, cpu, cuda, or one GPU: cuda:1"
    )
    options.add_threads(parser)


def main(args: argparse.Namespace) -> int:
    """Print an answer for each picture."""
    from recaffe.model import folder

    model = folder.read(args.model)
    from recaffe.errors import DataError
    from recaffe.model.output import Output, shown
    from recaffe.model.predict import classify, listed
    from recaffe.progress import bar

    paths = listed(args.pictures, map(os.fsdecode, sys.stdin.buffer))
    if not paths:
        raise DataError("The list of pictures is empty. Give their names, one a line.")
    kind = args.format or ("table" if sys.stdout.isatty() else "csv")
    top = min(args.top, len(model.labels))
    out = Output(kind, model.labels, top, args.threshold, sys.stdout)
    skipped = 0
    # Rows that come on the terminal while a bar is drawn there would break it.
    rows_on_terminal = kind != "table" and sys.stdout.isatty()
    with (
        # What the engine has to say is no row.
        redirect_stdout(sys.stderr),
        bar(len(paths), "predict", "img", hidden=rows_on_terminal) as shown_bar,
    ):
        for answer in classify(model, paths, args.batch_size, args.threads, args.device):
            if answer.scores is None:
                skipped += 1
                print(f"recaffe: {shown(answer.path)}: {answer.reason}", file=sys.stderr)
            else:
                out.add(answer.path, answer.scores)
            shown_bar.update()
    out.end()
    if skipped == len(paths):
        raise DataError(f"None of {len(paths)} pictures could be read.")
    said = f"{len(paths) - skipped} of {len(paths)} pictures classified"
    said += f", {out.unsure} of them unsure" if args.threshold else ""
    print(said, file=sys.stderr)
    return SKIPPED if skipped else 0
