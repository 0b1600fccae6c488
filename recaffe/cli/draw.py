"""The net as an SVG picture: layers by kind, shapes on the edges.

Phase ALL draws each layer, whatever phase it belongs to. A net with layers that recaffe doesn't know
is drawn without shapes.
"""

from __future__ import annotations

import argparse
import sys

from recaffe.cli import options


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The subcommand's flags."""
    parser.add_argument("net", metavar="NET", help="a net's prototxt")
    parser.add_argument("out", metavar="OUT.svg", help="the picture to write")
    parser.add_argument("--phase", choices=("TRAIN", "TEST", "ALL"), default="ALL")
    parser.add_argument(
        "--rankdir", choices=("TB", "LR"), default="TB", help="downwards, or to the right"
    )
    options.add_input(parser)
    options.add_state(parser)


def main(args: argparse.Namespace) -> int:
    """Write the picture."""
    from recaffe.errors import NetError
    from recaffe.files import write_text
    from recaffe.net import draw, graph
    from recaffe.proto import caffe_pb2 as pb

    if not args.out.endswith(".svg"):
        raise NetError(f"{args.out}: recaffe draws SVG; let the name end in .svg.")
    net = options.read_net(args.net, args.level, args.stage)
    size = options.input_size(args.input)
    phases = ("TRAIN", "TEST") if args.phase == "ALL" else (args.phase,)
    try:
        walks = [options.walk(net, phase, size) for phase in phases]
    except NetError as error:
        print(f"{args.out} shows no shapes. {error}", file=sys.stderr)
        states = [pb.Phase.Value(phase) for phase in phases]
        walks = [draw.unshaped(graph.of_phase(net, state)) for state in states]
    write_text(args.out, draw.svg(net, walks, args.rankdir))
    return 0
