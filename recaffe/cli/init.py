"""A config for a folder of pictures: what is in it, and choices with their reasons.

FOLDER has a folder for each class, or train/, val/ and test/ of them; a CSV, TSV or Parquet table and
Caffe's list files of `path label` lines will do, too. All pictures are listed and a sample of them is
decoded, as the workflow's scan does it. Nothing is written over unless --force says so.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The subcommand's flags."""
    parser.add_argument("folder", metavar="FOLDER", type=Path, help="pictures, a table, or a list")
    parser.add_argument(
        "-o", "--out", metavar="FILE", type=Path, default=Path("config/config.yaml"),
        help="the config to write (config/config.yaml)",
    )  # fmt: skip
    parser.add_argument("--force", action="store_true", help="replace FILE if it is there")
    parser.add_argument(
        "--sample", metavar="N", type=_count, default=2000,
        help="pictures to decode (2000); 0: all",
    )  # fmt: skip
    parser.add_argument(
        "--dry-run", action="store_true", help="say what is seen and chosen, and write nothing"
    )


def _count(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of pictures")
    return int(text)


def main(args: argparse.Namespace) -> int:
    """Say what there is, and write the config."""
    from recaffe.init import choose, forms, machine, problems, show, survey, write

    if not args.dry_run:
        write.refuse_existing(args.out, args.force)
    images = forms.images_of(_from_here(args.folder))
    settings = forms.bare(images)
    here = machine.look(Path("results"))
    seen = survey.take(settings["images"], settings["scan"], args.sample, here.cores)
    problems.check(seen)
    odd = problems.find(seen, settings["images"], settings["scan"])
    print("\n".join(show.lines(seen, odd)), flush=True)
    choices = choose.choose(seen, here, settings["scan"])
    name = write.dataset_of(args.folder, args.out)
    text = write.text_of(name, images, show.summary(seen, odd), choices)
    if args.dry_run:
        print(f"\n{text}", end="")
        return 0
    write.write(args.out, text)
    print("\n".join(show.next_steps(args.out, choices)))
    return 0


def _from_here(folder: Path) -> Path:
    """As the config names it: from the folder where snakemake runs, or in full where it is elsewhere."""
    whole = Path(os.path.abspath(folder))
    here = Path.cwd()
    return whole.relative_to(here) if whole.is_relative_to(here) and whole != here else whole
