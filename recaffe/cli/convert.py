"""A deploy net and its weights as ONNX or as a plain PyTorch module.

OUT.onnx takes any batch; its inputs and outputs are named after the blobs. OUT.py is a module of its
own that needs nothing but torch, with its weights in OUT.safetensors. Either is run on noise and on
pictures and compared with the engine before it is kept.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from recaffe.cli import options


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The subcommand's flags."""
    parser.add_argument("net", metavar="NET", help="a deploy net's prototxt")
    parser.add_argument("weights", metavar="WEIGHTS", help="its caffemodel")
    parser.add_argument("out", metavar="OUT", help="OUT.onnx or OUT.py")
    options.add_state(parser)


def main(args: argparse.Namespace) -> int:
    """Write the file, and say how near it is to the engine."""
    from recaffe.convert import write

    net = options.read_net(args.net, args.level, args.stage)
    found = write.files(net, args.net, options.existing(args.weights), Path(args.out))
    for what, d in found.items():
        print(
            f"{args.out}: on {what} the largest difference is {d.absolute:.3g} of {d.largest:.3g}"
        )
    return 0
