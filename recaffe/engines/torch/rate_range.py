"""The lr range test on the built-in engine: the training's own net, data and update, for a while.

It reads what the training reads and writes nothing, so neither knows of the other.
"""

from __future__ import annotations

import math
from contextlib import closing
from dataclasses import dataclass

from recaffe import stop
from recaffe.allocator import keep_freed_memory
from recaffe.engines.base import TrainJob
from recaffe.engines.torch import devices, losses, nets
from recaffe.engines.torch.distributed import Group
from recaffe.engines.torch.net import Net
from recaffe.engines.torch.passes import Passes
from recaffe.engines.torch.replica import Replica
from recaffe.engines.torch.solvers import make_solver
from recaffe.engines.torch.upload import on_device
from recaffe.net import weights
from recaffe.progress import bar
from recaffe.proto import caffe_pb2 as pb
from recaffe.rate_range import Watcher


@dataclass(frozen=True)
class Curve:
    """The rate and the loss of each iteration until the loss had diverged; and on what."""

    rates: list[float]
    losses: list[float]
    device: str


def measure(job: TrainJob, p: pb.SolverParameter) -> Curve:
    """Train as `p` (a `rate_range.plan`) says and `job` computes, on one device, and watch the loss.

    Of the job count its weights and how it computes. The loss is the weighted sum of all the net's, over
    batch_size × iter_size pictures, before the update of its rate.

    Raises what a training raises when net, data and weights don't go together, or memory runs out.
    """
    device = devices.pick_device(job.device)
    if device.type == "cpu":
        keep_freed_memory()
    group, seed = Group(), p.random_seed
    source = nets.train_net(p, job.level, job.stages)
    feed = source.feed(seed, augment=job.augment)
    channels_last = devices.keeps_channels_last(job.channels_last, job.precision, device)
    with devices.numerics(job, device):
        net = Net(
            source.net, source.net.state.phase, feed.shapes, seed, channels_last=channels_last
        )
        terms = losses.terms(net.walked, net.name)
        for path in nets.start_weights(job, p):
            net.load(weights.read(path, net.layers), job.copy)
        replica = Replica(net, terms, job.precision)
        passes = Passes(replica, feed, group, device, p, seed)
        with passes.explained():
            net.to(device)
            solver = make_solver(net, p)
        passes.start()
        batches = on_device(feed.batches(), device, channels_last, net.walked)
        rates: list[float] = []
        seen: list[float] = []
        watcher = Watcher()
        with (
            closing(batches) as ready,  # type: ignore[type-var]  # a generator
            bar(p.max_iter, job.title, "iteration") as shown,
        ):
            ready = passes.choose_parts(job.micro_batch, ready)
            for iteration in range(p.max_iter):
                stop.look_up()
                total, _ = passes.gradients(ready, iteration, False, None)
                loss, rate = float(total), solver.rate(iteration)
                has_diverged = watcher.has_diverged(loss)
                if math.isfinite(loss):
                    rates.append(rate)
                    seen.append(loss)
                shown.say(loss=loss, lr=rate)
                shown.update()
                if has_diverged:
                    break
                solver.step(rate, iteration)
    return Curve(rates, seen, devices.name_of(device, job.threads))
