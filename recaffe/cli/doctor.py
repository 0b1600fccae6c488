"""Check this machine: what is here, what is missing, what will work, and what to do.

Python and packages, disk, memory, cores, GPU and driver, both engines, Docker, Podman, Apptainer, SLURM.
Nothing is changed; a small file is written and removed where results would go. The status is 0 if
this machine can do what the config wants, 1 if not.
"""

from __future__ import annotations

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The subcommand's flags."""
    parser.add_argument(
        "--config", metavar="FILE", type=Path,
        help="the config to check for, its pictures included (else what config/config.yaml wants)",
    )  # fmt: skip
    parser.add_argument("--json", action="store_true", help="print it as JSON")


def main(args: argparse.Namespace) -> int:
    """Print what there is."""
    import json

    from recaffe import config
    from recaffe.doctor import examine
    from recaffe.doctor.result import About

    file = args.config
    if file is None:
        own = Path("config/config.yaml")
        file = own if own.is_file() else config.ROOT / own
    about = About(config.load(file), named=args.config is not None)
    findings, possible = examine.examine(about, str(file))
    if args.json:
        print(json.dumps(examine.as_json(findings, possible, str(file)), indent=2))
    else:
        print("\n".join(examine.lines(findings, possible)))
    return 0 if possible[0].works else 1
