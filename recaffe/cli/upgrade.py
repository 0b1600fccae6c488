"""Bring a net or solver in an older form of Caffe's up to date.

Does what upgrade_net_proto_text, upgrade_net_proto_binary and upgrade_solver_proto_text do; which
of them it is, IN's content tells. Comments and fields that Caffe doesn't know are kept.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """`IN OUT`, as Caffe's tools have them."""
    parser.add_argument("source", metavar="IN", type=Path, help="prototxt or caffemodel")
    parser.add_argument("target", metavar="OUT", type=Path, help="file to write")


def main(args: argparse.Namespace) -> int:
    """0, or 1 if something had to be left out (OUT is written all the same), as Caffe's tools."""
    return int(run(args.source, args.target))


def run(source: Path, target: Path) -> bool:
    """Write `target`; whether something had to be left out, which is named on stderr."""
    from recaffe.net.upgrade.files import upgrade_file

    warnings = upgrade_file(source, target)
    for sentence in warnings:
        print(f"recaffe: {source}: {sentence}.", file=sys.stderr)
    return bool(warnings)
