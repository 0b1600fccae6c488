"""One process's copy of the net: a part of a batch in, its part of the loss out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from recaffe.engines.torch.data import mixup
from recaffe.engines.torch.devices import autocast
from recaffe.engines.torch.distributed import Group
from recaffe.engines.torch.losses import Term
from recaffe.engines.torch.net import Net
from recaffe.net import graph

Blobs = dict[str, Tensor]


class Replica(nn.Module):
    """The net with its loss. `shares` says what each term counts for; see losses.py."""

    def __init__(self, net: Net, terms: Sequence[Term], precision: str) -> None:
        super().__init__()
        self.net, self.terms, self.precision = net, terms, precision
        self.compiled: Callable[[Blobs], Blobs] | None = None
        self._say: Callable[[str], None] = print

    def forward(self, inputs: Blobs, shares: Sequence[float]) -> tuple[Tensor, Blobs]:
        """The loss (a scalar) and the net's output blobs, without gradients."""
        device = next(iter(self.net.parameters())).device
        with autocast(self.precision, device):
            blobs = self._run(inputs)
            if mixup.SHARE in inputs:
                self._mix(blobs)
        loss: Tensor | None = None
        for term, share in zip(self.terms, shares, strict=True):
            value = blobs[term.blob].sum() * (term.weight * share)
            loss = value if loss is None else loss + value
        assert loss is not None, "terms() finds at least one"
        return loss, {name: blobs[name].detach() for name in self.net.outputs}

    def compile_net(self, say: Callable[[str], None]) -> None:
        """Run the net by `torch.compile` from now on; where that can't be done, `say` so and don't."""
        self.compiled, self._say = torch.compile(self.net.forward), say

    def _mix(self, blobs: Blobs) -> None:
        """Losses under the pictures' own labels become those under both; see data/mixup.py."""
        for layer in {term.layer.name: term.layer for term in self.terms}.values():
            other = len(layer.bottom) > 1 and mixup.partners_of(layer.bottom[1])
            if other in blobs:
                loss = self.net.under(layer.name, blobs, {layer.bottom[1]: other})[0]
                top = layer.top[0]
                blobs[top] = torch.lerp(loss, blobs[top], blobs[mixup.SHARE])

    def _run(self, inputs: Blobs) -> Blobs:
        if self.compiled is None:
            return self.net(inputs)
        try:
            return self.compiled(inputs)
        except torch._dynamo.exc.TorchDynamoException as error:
            self.compiled = None
            reason = str(error).strip().splitlines()[0]
            self._say(
                f"compile: torch.compile can't do this net here, so it runs as it is ({reason})"
            )
            return self.net(inputs)


class Together:
    """A replica whose gradients are those of all processes' batches together."""

    def __init__(self, replica: Replica, group: Group) -> None:
        self.replica, self.world = replica, group.world
        self.ddp: DistributedDataParallel | None = None
        if group.world > 1:
            self.ddp = DistributedDataParallel(
                replica, find_unused_parameters=_has_idle_parameters(replica)
            )

    def backward(self, inputs: Blobs, shares: Sequence[float], last: bool) -> tuple[Tensor, Blobs]:
        """Add the gradients of a part; after the `last` of an update, the processes exchange them.

        Returns the part's loss and outputs.
        """
        if self.ddp is None:
            loss, outputs = self.replica(inputs, shares)
            loss.backward()
            return loss.detach(), outputs
        exchange: AbstractContextManager[None] = nullcontext() if last else self.ddp.no_sync()
        with exchange:
            loss, outputs = self.ddp(inputs, shares)
            # DistributedDataParallel averages; the parts' shares want the sum.
            (loss * self.world).backward()
        return loss.detach(), outputs


def statistics(net: Net) -> list[Tensor]:
    """BatchNorm's running sums, which each process keeps of its own share of the batches."""
    return [b.detach() for x in net.layers if x.type == "BatchNorm" for b in net.blobs[x.name]]


def _has_idle_parameters(replica: Replica) -> bool:
    """Whether some learned parameter lies below no loss, so that it never has a gradient."""
    layers = replica.net.layers
    reached: set[int] = set()
    for i, layer in enumerate(layers):
        if any(t.layer is layer for t in replica.terms):
            reached |= graph.ancestors(layers, i)
    used = {id(b) for i in reached for b in replica.net.blobs.get(layers[i].name, ())}
    return any(p.requires_grad and id(p) not in used for p in replica.net.parameters())
