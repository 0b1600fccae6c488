"""From batches on the CPU to blobs on the device, beside its work."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

import torch
from torch import Tensor

from recaffe.engines.torch.data import Batch
from recaffe.engines.torch.layers.labels import Labels
from recaffe.net.shapes import LayerShapes

Blobs = dict[str, Tensor]


def on_device(
    batches: Iterator[Batch],
    device: torch.device,
    channels_last: bool,
    net: Sequence[LayerShapes],
) -> Iterator[tuple[Batch, Blobs]]:
    """Each batch with its blobs on the device.

    Raises `DataError` for a label that is no class of the net's.

    A GPU gets them on a stream of its own from pinned memory. As what is asked of a GPU is only
    queued, the caller asks for the next batch while the last one is still computed: the copy runs
    at the same time.
    """
    labels = Labels(net)
    if device.type != "cuda":
        for batch in batches:
            labels.check(batch.tops)
            yield batch, batch.to(device, channels_last)
        return
    stream = torch.cuda.Stream(device)
    for batch in batches:
        labels.check(batch.tops)
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
