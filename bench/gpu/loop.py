"""A training loop as one writes it by hand in PyTorch, on a batch that lies on the card or from an LMDB.

    python -m bench.gpu.loop NET BATCH --device cuda --precision bf16 [--lmdb FOLDER] …

prints a line of JSON: `seconds` a step in each interval after the first, in which kernels are chosen and
compiled, and `peak`, the MiB that it took.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path

import lmdb
import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from bench.gpu.card import peak
from bench.gpu.nets import NETS
from recaffe.allocator import keep_freed_memory
from recaffe.proto import caffe_pb2 as pb

CLASSES = 10
_MOST_WORKERS = 8
_MEAN = 117


def parser() -> argparse.ArgumentParser:
    """The process's flags."""
    out = argparse.ArgumentParser(prog="python -m bench.gpu.loop")
    out.add_argument("net", choices=NETS)
    out.add_argument("batch", type=int)
    out.add_argument("--device", default="cuda")
    out.add_argument("--precision", choices=("fp32", "tf32", "bf16"), default="fp32")
    out.add_argument("--channels-last", action="store_true")
    out.add_argument("--compile", action="store_true")
    out.add_argument(
        "--lmdb", type=Path, help="records; a batch that lies on the device without it"
    )
    out.add_argument("--steps", type=int, default=20, help="of an interval (20)")
    out.add_argument("--intervals", type=int, default=4, help="that count (4)")
    return out


def train(args: argparse.Namespace) -> list[float]:
    """Seconds a step of each interval, at whose end the loss is read: that waits for the card."""
    device = torch.device(args.device)
    torch.backends.cuda.matmul.allow_tf32 = args.precision == "tf32"
    torch.backends.cudnn.allow_tf32 = args.precision == "tf32"
    torch.backends.cudnn.benchmark = True
    torch.manual_seed(1)
    layout = torch.channels_last if args.channels_last else torch.contiguous_format
    module = NETS[args.net].build().to(device, memory_format=layout).train()
    net = torch.compile(module) if args.compile else module
    optimiser = torch.optim.SGD(module.parameters(), 1e-6, momentum=0.9, weight_decay=5e-4)
    batches = from_lmdb(args, device) if args.lmdb else on_device(args, device)
    seconds = []
    for _ in range(args.intervals + 1):
        began = time.perf_counter()
        for _ in range(args.steps):
            x, labels = next(batches)
            optimiser.zero_grad()
            with torch.autocast(device.type, torch.bfloat16, enabled=args.precision == "bf16"):
                loss = nn.functional.cross_entropy(net(x.contiguous(memory_format=layout)), labels)
            loss.backward()
            optimiser.step()
        loss.item()
        seconds.append((time.perf_counter() - began) / args.steps)
    return seconds[1:]


def on_device(args: argparse.Namespace, device: torch.device) -> Iterator[tuple[Tensor, Tensor]]:
    """The same batch for ever."""
    side = NETS[args.net].side
    x = torch.rand(args.batch, 3, side, side, device=device).mul_(255).sub_(_MEAN)
    if args.channels_last:
        x = x.contiguous(memory_format=torch.channels_last)
    labels = torch.arange(args.batch, device=device) % CLASSES
    while True:
        yield x, labels


def from_lmdb(args: argparse.Namespace, device: torch.device) -> Iterator[tuple[Tensor, Tensor]]:
    """Random windows of the records, mirrored or not, made by processes of their own."""
    count = args.batch * args.steps * (args.intervals + 1)
    loader = DataLoader(
        Records(args.lmdb, NETS[args.net].side, count), args.batch, pin_memory=device.type == "cuda",
        num_workers=min(_MOST_WORKERS, len(os.sched_getaffinity(0))),
    )  # fmt: skip
    for pixels, labels in loader:
        yield (
            pixels.to(device, non_blocking=True).float().sub_(_MEAN),
            labels.to(device, non_blocking=True),
        )


class Records(Dataset[tuple[Tensor, int]]):
    """A window of a record, uint8 C×side×side, and its label; the records over again until `count`."""

    def __init__(self, path: Path, side: int, count: int) -> None:
        self.path, self.side, self.count = path, side, count
        self._found: tuple[lmdb.Transaction, list[bytes]] | None = None

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        if self._found is None:  # each worker opens it for itself
            txn = lmdb.open(str(self.path), readonly=True, lock=False, readahead=False).begin()
            self._found = txn, list(txn.cursor().iternext(keys=True, values=False))
        txn, keys = self._found
        datum = pb.Datum.FromString(txn.get(keys[index % len(keys)]))
        shape = (datum.channels, datum.height, datum.width)
        image = np.frombuffer(datum.data, np.uint8).reshape(shape)
        y = int(torch.randint(datum.height - self.side + 1, ()))
        x = int(torch.randint(datum.width - self.side + 1, ()))
        window = image[:, y : y + self.side, x : x + self.side]
        if torch.randint(2, ()):
            window = window[:, :, ::-1]
        return torch.from_numpy(window.copy()), datum.label


def main() -> None:
    """Train and print."""
    args = parser().parse_args()
    if args.device == "cpu":
        keep_freed_memory()  # as recaffe does
    seconds = train(args)
    print(json.dumps({"seconds": seconds, "peak": peak(args.device)}))


if __name__ == "__main__":
    main()
