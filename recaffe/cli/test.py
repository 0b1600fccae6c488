"""Score a net on its own data: the mean of the batches' means, as `caffe test`.

--all visits each record exactly once instead, so that the numbers are those of the whole set,
whatever its size.
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from recaffe.cli import options
from recaffe.errors import NetError
from recaffe.glog import number, say

if TYPE_CHECKING:
    from collections.abc import Iterator

    import torch

    from recaffe.engines.base import Output
    from recaffe.engines.torch.data import Batch, Feed
    from recaffe.engines.torch.net import Net


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The subcommand's flags."""
    parser.add_argument("--model", required=True, metavar="M", help="a net with a TEST phase")
    parser.add_argument("--weights", required=True, metavar="W", help="its caffemodel")
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--iterations", type=int, default=50, metavar="N", help="batches (50)")
    which.add_argument("--all", action="store_true", help="each record exactly once")
    options.add_gpu(parser)
    options.add_threads(parser)
    options.add_state(parser)


def main(args: argparse.Namespace) -> int:
    """Run the net and print its outputs, in Caffe's lines."""
    options.at_least_one(args.iterations)
    net = options.read_net(args.model, args.level, args.stage)
    options.existing(args.weights)
    options.check_has_data(net, "TEST", args.model)
    from recaffe.engines.torch.data import Feed
    from recaffe.engines.torch.memory import explained_pass
    from recaffe.engines.torch.net import Net
    from recaffe.proto import caffe_pb2 as pb

    device = options.torch_device(args.gpu, args.threads)
    say("Use CPU." if device.type == "cpu" else f"Use GPU with device ID {device.index or 0}")
    feed = Feed(net, pb.TEST, 0, level=args.level, stages=tuple(net.state.stage))
    built = Net(net, pb.TEST, feed.shapes, filled=False)
    built.load(options.weights_for(built.walked, args.weights))
    with explained_pass(built.walked, device, feed.batch_size, "batch_size of the data layer"):
        built.to(device)
        if args.all:
            _check_last_batch(built, feed, args.model)
            say("Running over each record once.")
            outputs = _means_of_records(built, feed, device)
        else:
            say(f"Running for {args.iterations} iterations.")
            outputs = _means_of_batches(built, feed.batches(), args.iterations, device)
    say(f"Loss: {number(sum(o.weight * o.value for o in outputs))}")
    for o in outputs:
        part = f" (* {number(o.weight)} = {number(o.weight * o.value)} loss)" if o.weight else ""
        say(f"{o.name} = {number(o.value)}{part}")
    return 0


def _check_last_batch(net: Net, feed: Feed, model: str) -> None:
    from recaffe.net.shapes import takes_any_batch

    if feed.records is None or feed.records % feed.batch_size == 0:
        return
    if not takes_any_batch(net.walked, feed.batch_size):
        raise NetError(
            f"{model} can't compute the last batch, which is smaller: a Reshape names the number of "
            f"records. Write dim: 0 there, or a batch_size that divides {feed.records}."
        )


def _means_of_batches(
    net: Net, batches: Iterator[Batch], iterations: int, device: torch.device
) -> list[Output]:
    """Each value of each output, averaged over the batches."""
    import torch

    from recaffe.engines.base import Output
    from recaffe.engines.torch.upload import on_device
    from recaffe.net import graph

    names = graph.outputs(net.layers)
    sums = {name: torch.zeros(0) for name in names}
    ready = on_device(batches, device, channels_last=True, net=net.walked)
    with torch.no_grad():
        for i in range(iterations):
            made = net(next(ready)[1])
            for name in names:
                values = made[name].reshape(-1).cpu()
                sums[name] = values if i == 0 else sums[name] + values
                for value in values.tolist():
                    say(f"Batch {i}, {name} = {number(value)}")
    batches.close()  # type: ignore[attr-defined]  # a generator
    weights = graph.loss_weights(net.layers)
    return [
        Output(name, total / iterations, weights.get(name, 0.0))
        for name in names
        for total in sums[name].tolist()
    ]


def _means_of_records(net: Net, feed: Feed, device: torch.device) -> list[Output]:
    """Each output that is a mean itself (losses, accuracies), over all records."""
    import torch

    from recaffe.engines.torch.distributed import Group
    from recaffe.engines.torch.outputs import Means
    from recaffe.engines.torch.upload import on_device

    means = Means(net, device, feed.batch_size)
    with torch.no_grad():
        for batch, blobs in on_device(feed.once(), device, channels_last=True, net=net.walked):
            means.add(net(blobs), batch.size)
    return list(means.outputs(Group()))
