"""From batches on the CPU to blobs on the device, beside its work."""

from __future__ import annotations

from collections.abc import Collection, Iterator

import torch
from torch import Tensor

from recaffe.engines.torch.data import Batch

Blobs = dict[str, Tensor]


def on_device(
    batches: Iterator[Batch], device: torch.device, channels_last: bool
) -> Iterator[tuple[Batch, Blobs]]:
    """Each batch with its blobs on the device.

    A GPU gets them on a stream of its own from pinned memory. As what is asked of a GPU is only
    queued, the caller asks for the next batch while the last one is still computed: the copy runs
    at the same time.
    """
    if device.type != "cuda":
        for batch in batches:
            yield batch, batch.to(device, channels_last)
        return
    stream = torch.cuda.Stream(device)
    for batch in batches:
        with torch.cuda.stream(stream):
            blobs = batch.to(device, channels_last)
        now = torch.cuda.current_stream(device)
        now.wait_stream(stream)
        for blob in blobs.values():
            blob.record_stream(now)  # so that its memory isn't given away while it is read
        yield batch, blobs


def split(blobs: Blobs, parts: int, batched: Collection[str]) -> list[Blobs]:
    """The blobs in equal parts along their first axis; those that aren't `batched` whole in each."""
    if parts == 1:
        return [blobs]
    cut = {
        name: blob.chunk(parts) if name in batched else [blob] * parts
        for name, blob in blobs.items()
    }
    return [{name: pieces[i] for name, pieces in cut.items()} for i in range(parts)]
