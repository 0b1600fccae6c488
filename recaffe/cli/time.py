"""Per-layer time of a net, forward and backward.

Batches come from the net's own data layers; where a source is missing, and for Input layers, they
are random.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from recaffe.cli import options

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from recaffe.engines.torch.timing import Costs
    from recaffe.net.shapes import LayerShapes
    from recaffe.proto import caffe_pb2 as pb


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The subcommand's flags."""
    parser.add_argument("--model", required=True, metavar="M", help="a net's prototxt")
    parser.add_argument("--weights", metavar="W", help="a caffemodel, for speeds that depend on it")
    parser.add_argument("--iterations", type=int, default=50, metavar="N", help="passes (50)")
    parser.add_argument("--phase", choices=("TRAIN", "TEST"), default="TRAIN")
    options.add_gpu(parser)
    options.add_threads(parser)
    options.add_input(parser)
    options.add_state(parser)


def main(args: argparse.Namespace) -> int:
    """Time the net; the table goes to stderr as `caffe time`'s does."""
    options.at_least_one(args.iterations)
    net = options.read_net(args.model, args.level, args.stage)
    walked = options.walk(net, args.phase, options.input_size(args.input))
    import torch

    from recaffe.engines.torch.memory import explained_pass
    from recaffe.engines.torch.net import Net
    from recaffe.engines.torch.timing import measure
    from recaffe.glog import say
    from recaffe.net import graph
    from recaffe.proto import caffe_pb2 as pb

    device = options.torch_device(args.gpu, args.threads)
    say("Use CPU." if device.type == "cpu" else f"Use GPU with device ID {device.index or 0}")
    shapes = {
        top: shape
        for s in walked
        if s.layer.type in graph.DATA
        for top, shape in zip(s.layer.top, s.tops, strict=False)
    }
    built = Net(net, pb.Phase.Value(args.phase), shapes)
    if args.weights:
        built.load(options.weights_for(walked, args.weights))
    torch.manual_seed(0)
    batch = next((shape[0] for shape in shapes.values() if shape), 1)
    setting = "batch_size of the data layer"
    with explained_pass(built.walked, device, batch, setting, training=True):
        built.to(device)
        costs = measure(built, _batches(net, args.phase, built.walked, device), args.iterations)
    _report(costs)
    return 0


def _batches(
    net: pb.NetParameter, phase: str, walked: Sequence[LayerShapes], device: torch.device
) -> Iterator[dict[str, Tensor]]:
    """Endless blobs of the data layers: read, or random where there is nothing to read."""
    import torch

    from recaffe.engines.torch.data import Feed
    from recaffe.engines.torch.upload import on_device
    from recaffe.errors import RecaffeError
    from recaffe.glog import say
    from recaffe.net import graph
    from recaffe.proto import caffe_pb2 as pb

    layers = [s.layer for s in walked]
    try:
        if any(x.type in graph.DATA and x.type != "Input" for x in layers):
            state = net.state
            feed = Feed(net, pb.Phase.Value(phase), 0, level=state.level, stages=tuple(state.stage))
            for _, blobs in on_device(feed.batches(), device, channels_last=True, net=walked):
                yield blobs
    except RecaffeError as error:
        say(f"The data are random: {error}")
    # Labels must be classes: 0 is one in any net.
    on_labels = graph.CLASS_LOSSES | {"Accuracy"}
    labels = {x.bottom[1] for x in layers if len(x.bottom) > 1 and x.type in on_labels}
    drawn = {
        name: (torch.zeros if name in labels else torch.randn)(shape, device=device)
        for s in walked
        if s.layer.type in graph.DATA
        for name, shape in zip(s.layer.top, s.tops, strict=False)
    }
    while True:
        yield drawn


def _report(costs: Costs) -> None:
    """The lines of `caffe time`."""
    from recaffe.glog import number, say

    n = len(costs.iterations)
    say(f"Initial loss: {number(costs.loss)}")
    say("*** Benchmark begins ***")
    say(f"Testing for {n} iterations.")
    for i, ms in enumerate(costs.iterations, 1):
        say(f"Iteration: {i} forward-backward time: {number(ms)} ms.")
    say("Average time per layer: ")
    for layer in costs.layers:
        say(f"{layer.name:>10}\tforward: {number(layer.forward / n)} ms.")
        say(f"{layer.name:>10}\tbackward: {number(layer.backward / n)} ms.")
    total = sum(costs.iterations)
    say(f"Average Forward pass: {number(costs.forward / n)} ms.")
    say(f"Average Backward pass: {number(costs.backward / n)} ms.")
    say(f"Average Forward-Backward: {number(total / n)} ms.")
    say(f"Total Time: {number(total)} ms.")
    say("*** Benchmark ends ***")
