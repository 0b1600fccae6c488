"""Check that a results folder holds what the workflow wrote, byte for byte.

Recomputes the digests of all files and of all records, compares lists with LMDBs and metrics with
predictions. Names each file that doesn't match, and what to remove so that the workflow makes it
again. --deep also reads the pictures and other inputs, and computes the mean again; run it from the
folder where snakemake ran. The status is 1 if anything doesn't match.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The subcommand's flags."""
    parser.add_argument("results", metavar="RESULTS", type=Path, help="results/ or results/DATASET")
    parser.add_argument("--deep", action="store_true", help="read the inputs and pictures, too")


def main(args: argparse.Namespace) -> int:
    """Print each problem as it is found; 0 if there is none."""
    from recaffe.verify import data_sets, verify

    found = 0
    for folder in data_sets(args.results):
        told: set[str] = set()  # a file's first problem is enough
        for problem in verify(folder, args.deep):
            if problem.file not in told:
                print(problem, flush=True)
            told.add(problem.file)
        wrong = len(told)
        print(f"{folder}: {wrong or 'no'} problem{'' if wrong == 1 else 's'}", file=sys.stderr)
        found += wrong
    return int(found > 0)
