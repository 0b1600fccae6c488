"""Weights of torchvision or timm as a caffemodel, with the net that they belong to.

Writes a folder: train_val.prototxt, NAME.caffemodel, and train.yaml, which has the config's keys for
them. LIBRARY:NET is torchvision:resnet50, for example; a name that isn't known lists all.
"""

# ruff: noqa: N999 - named after its command, as its neighbours are
from __future__ import annotations

import argparse
from pathlib import Path

from recaffe.cli import options


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The subcommand's flags."""
    parser.add_argument("net", metavar="LIBRARY:NET", help="torchvision:resnet50, for example")
    parser.add_argument(
        "--weights",
        required=True,
        metavar="FILE",
        help="a state dict: .safetensors, .pth, .pt, .bin",
    )
    parser.add_argument("-o", "--out", metavar="FOLDER", help="a new folder (imported/LIBRARY_NET)")
    normalised = "of pixels of 0 to 1 in training, where it wasn't the library's own for this net"
    parser.add_argument("--mean", type=_triple, metavar="R,G,B", help=f"mean {normalised}")
    parser.add_argument("--std", type=_triple, metavar="R,G,B", help=f"std {normalised}")
    parser.add_argument(
        "--scale",
        type=_positive,
        default=None,
        help="the net's own scale of pixels (0.017); 1 puts all of it into the first convolution",
    )


def _positive(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is no number above 0")
    return value


def _triple(text: str) -> tuple[float, float, float]:
    try:
        red, green, blue = (float(x) for x in text.split(","))
    except ValueError:
        red = green = blue = -1.0
    if not all(0 <= x <= 1 for x in (red, green, blue)):
        raise argparse.ArgumentTypeError(
            f"{text!r} is no R,G,B of 0 to 1, such as 0.485,0.456,0.406"
        )
    return red, green, blue


def main(args: argparse.Namespace) -> int:
    """Write the folder, and show the config's keys."""
    from recaffe.imports import write
    from recaffe.imports.known import Pixels, known

    net = known(args.net)
    source = Path(options.existing(args.weights))
    out = Path(args.out or Path("imported", args.net.replace(":", "_")))
    pixels = Pixels(args.mean or net.pixels.mean, args.std or net.pixels.std)
    if not all(pixels.std):
        from recaffe.errors import RecaffeError

        raise RecaffeError("--std: each number must be above 0.")
    scale = write.SCALE if args.scale is None else args.scale
    print(write.run(args.net, net, source, out, pixels, scale), end="")
    return 0
