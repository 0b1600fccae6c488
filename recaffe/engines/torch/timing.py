"""What each layer of a net costs, forward and backward."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor

from recaffe.engines.torch.layers import Context
from recaffe.engines.torch.net import Net
from recaffe.net import graph
from recaffe.proto import caffe_pb2 as pb


@dataclass
class Cost:
    """Milliseconds of one layer, summed over the iterations."""

    name: str
    forward: float = 0.0
    backward: float = 0.0


@dataclass
class Costs:
    """Milliseconds by layer; `iterations` holds each whole pass, `loss` is the first one's."""

    layers: list[Cost]
    forward: float = 0.0
    backward: float = 0.0
    iterations: list[float] = field(default_factory=list)
    loss: float = 0.0


@dataclass
class _Ran:
    """One layer's part of a forward pass: its own copies of the bottoms, and the tops."""

    bottoms: list[Tensor]
    leaves: list[Tensor]
    tops: list[Tensor]


def measure(net: Net, batches: Iterator[dict[str, Tensor]], iterations: int) -> Costs:
    """Time `iterations` passes after one that isn't counted.

    `batches` yields the data layers' blobs; the wait for them is the cost of the first of those
    layers, and the others have none. Each layer
    runs on its own, so a layer's backward pass is measured apart from its neighbours'. A net
    without a loss starts backward from ones in its outputs.
    """
    device = next((p.device for p in net.parameters()), torch.device("cpu"))
    wait = torch.cuda.synchronize if device.type == "cuda" else lambda: None
    costs = Costs([Cost(s.layer.name) for s in net.walked])
    kinds = [s.layer.type in graph.DATA for s in net.walked]
    reading = [c for c, is_data in zip(costs.layers, kinds, strict=True) if is_data]
    running = [c for c, is_data in zip(costs.layers, kinds, strict=True) if not is_data]
    for count in range(iterations + 1):
        began = time.perf_counter()
        blobs = _read(batches, reading, wait)
        ran = _forward(net, blobs, running, wait)
        middle = time.perf_counter()
        _backward(net, ran, blobs, running, wait)
        end = time.perf_counter()
        if count == 0:  # the first pass allocates
            costs.loss = float(net.loss(blobs).detach()) if net.loss_weights else 0.0
            for cost in costs.layers:
                cost.forward = cost.backward = 0.0
            continue
        costs.forward += 1e3 * (middle - began)
        costs.backward += 1e3 * (end - middle)
        costs.iterations.append(1e3 * (end - began))
    return costs


def _read(
    batches: Iterator[dict[str, Tensor]], costs: list[Cost], wait: Callable[[], None]
) -> dict[str, Tensor]:
    start = time.perf_counter()
    blobs = dict(next(batches))
    wait()
    for cost in costs[:1]:
        cost.forward += 1e3 * (time.perf_counter() - start)
    return blobs


def _forward(
    net: Net, blobs: dict[str, Tensor], costs: list[Cost], wait: Callable[[], None]
) -> list[_Ran]:
    """Run each layer; its tops are added to `blobs`."""
    ran = []
    for layer, cost in zip(net.layers, costs, strict=True):
        bottoms = [blobs[b] for b in layer.bottom]
        leaves = [b.detach().requires_grad_(b.requires_grad) for b in bottoms]
        start = time.perf_counter()
        context = Context(net.phase == pb.TRAIN)
        tops = net.run(layer, leaves, net.params_of(layer.name), context)
        wait()
        cost.forward += 1e3 * (time.perf_counter() - start)
        blobs.update(zip(layer.top, tops, strict=False))
        ran.append(_Ran(bottoms, leaves, tops))
    return ran


def _backward(
    net: Net,
    ran: list[_Ran],
    blobs: dict[str, Tensor],
    costs: list[Cost],
    wait: Callable[[], None],
) -> None:
    arrived = _seeds(net, blobs)
    for layer, r, cost in reversed(list(zip(net.layers, ran, costs, strict=True))):
        pairs = [(t, arrived[id(t)]) for t in r.tops if id(t) in arrived and t.requires_grad]
        params = [p for p in net.blobs.get(layer.name, ()) if p.requires_grad]
        wanted = [*params, *(x for x in r.leaves if x.requires_grad)]
        if not pairs or not wanted:
            continue
        start = time.perf_counter()
        grads = torch.autograd.grad(
            [t for t, _ in pairs], wanted, [g for _, g in pairs], allow_unused=True
        )
        below = iter(grads[len(params) :])
        for bottom, leaf in zip(r.bottoms, r.leaves, strict=True):
            grad = next(below) if leaf.requires_grad else None
            if grad is not None:  # a blob that several layers read adds up what they say
                key = id(bottom)
                arrived[key] = arrived[key] + grad if key in arrived else grad
        wait()
        cost.backward += 1e3 * (time.perf_counter() - start)


def _seeds(net: Net, blobs: dict[str, Tensor]) -> dict[int, Tensor]:
    seeds = net.loss_weights or dict.fromkeys(net.outputs, 1.0)
    return {id(blobs[x]): torch.full_like(blobs[x], weight) for x, weight in seeds.items()}
