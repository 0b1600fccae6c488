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
    from recaffe.convert import module, write
    from recaffe.errors import NetError
    from recaffe.files import sha256
    from recaffe.net import shapes

    out = Path(args.out)
    writers = {".onnx": write.onnx, ".py": write.pytorch}
    if out.suffix not in writers:
        raise NetError(f"{out}: the name must end in .onnx or .py.")
    if out.suffix == ".py" and not out.stem.isidentifier():
        raise NetError(f"{out}: {out.stem!r} can't be imported; use letters, digits and _.")
    net = options.read_net(args.net, args.level, args.stage)
    walked = shapes.walk(module.deploy_layers(net, args.net), {})
    weights = options.weights_for(walked, args.weights)
    about = (
        f"{net.name or 'A net'}, made by `recaffe convert` from {Path(args.net).name} and "
        f"{Path(args.weights).name}\n(sha256 {sha256(args.weights)})."
    )
    found = writers[out.suffix](net, weights, out, args.net, about)
    for what, d in found.items():
        print(f"{out}: on {what} the largest difference is {d.absolute:.3g} of {d.largest:.3g}")
    return 0
