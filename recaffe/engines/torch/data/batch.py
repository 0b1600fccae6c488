"""A batch on its way to the device, and the memory it lies in."""

from __future__ import annotations

import math
import weakref
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

CPU = torch.device("cpu")
_SIZES = 16  # pictures that all have other sizes leave nothing that could be used again


class Buffers:
    """Memory for batches, used again once nothing refers to it.

    Fresh pages cost more than all that is written into them, so what a batch leaves behind goes
    to the next one. For a GPU it is page-locked, which PyTorch keeps and reuses by itself.
    """

    def __init__(self) -> None:
        self.pinned = False
        self._free: dict[int, list[np.ndarray]] = {}

    def empty(self, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        """A tensor of any content on the CPU."""
        if self.pinned:
            return torch.empty(shape, dtype=dtype, pin_memory=True)
        size = math.prod(shape) * dtype.itemsize
        if len(self._free) > _SIZES:
            self._free = {}
        free = self._free.setdefault(size, [])
        try:
            memory = free.pop()
        except IndexError:
            memory = np.empty(size, np.uint8)
        # The tensor and all its views keep this array alive, and nothing else does.
        lent = memory[:]
        weakref.finalize(lent, free.append, memory)
        return torch.from_numpy(lent).view(dtype).view(shape)


class Mean:
    """What is subtracted from all pixels: float32 C×1×1, or 2×C×H×W, a picture and its mirror image."""

    def __init__(self, values: Tensor) -> None:
        self.values, self.a_picture = values, values.dim() == 4
        self._there: dict[torch.device, Tensor] = {CPU: values}

    def on(self, device: torch.device) -> Tensor:
        """The values on a device, where they stay."""
        if device not in self._there:
            self._there[device] = self.values.to(device)
        return self._there[device]


class Late(Protocol):
    """A top that becomes float32 where it is wanted."""

    def floats(self, device: torch.device, buffers: Buffers) -> Tensor:
        """N×C×H×W on the device."""
        ...


@dataclass(frozen=True)
class Windows:
    """Crops of records that wait for mean and scale: a quarter of the bytes, so this is what travels.

    `pixels` is uint8 (float32 if a record is) N×C×H×W, mirrored already. Of a mean picture, record i
    takes the window [flips[i], :, tops[i]:, lefts[i]:].
    """

    pixels: Tensor
    mean: Mean | None
    scale: float
    tops: np.ndarray
    lefts: np.ndarray
    flips: np.ndarray

    def floats(self, device: torch.device, buffers: Buffers) -> Tensor:
        """(pixel − mean) × scale, float32 N×C×H×W on the device."""
        if device.type == "cpu":
            out = buffers.empty(tuple(self.pixels.shape), torch.float32)
            if self.mean is None or not self.mean.a_picture:
                out.copy_(self.pixels)
                if self.mean is not None:
                    out.sub_(self.mean.values)
            else:  # record by record, so that it stays in the cache
                h, w = out.shape[2:]
                for i, (flip, y, x) in enumerate(
                    zip(self.flips, self.tops, self.lefts, strict=True)
                ):
                    out[i].copy_(self.pixels[i]).sub_(
                        self.mean.values[flip, :, y : y + h, x : x + w]
                    )
        else:
            out = self.pixels.to(device, non_blocking=True).float()
            if self.mean is not None:
                out.sub_(self.mean_windows(self.mean, device))
        return out.mul_(self.scale) if self.scale != 1 else out

    def mean_windows(self, mean: Mean, device: torch.device) -> Tensor:
        """What to subtract, all records at once: N×C×H×W, or something that broadcasts to it."""
        values = mean.on(device)
        if not mean.a_picture:
            return values
        h, w = self.pixels.shape[2:]
        places = np.stack([self.flips, self.tops, self.lefts])
        if (places == places[:, :1]).all():  # TEST
            flip, y, x = places[:, 0]
            return values[flip, :, y : y + h, x : x + w]
        flip, y, x = torch.from_numpy(places).to(device, non_blocking=True)
        return values.unfold(2, h, 1).unfold(3, w, 1)[flip, :, y, x]


@dataclass
class Batch:
    """Blobs of the data layers for one pass. `size` is the number of this process's records."""

    index: int
    size: int
    tops: Mapping[str, Tensor | Late]
    buffers: Buffers = field(repr=False)

    @cached_property
    def blobs(self) -> dict[str, Tensor]:
        """All tops by name, float32 on the CPU."""
        return self._on(CPU)

    def to(self, device: torch.device, channels_last: bool = False) -> dict[str, Tensor]:
        """All tops by name, float32 on the device; the copy to a GPU doesn't wait for its end."""
        if device.type == "cuda":
            self.buffers.pinned = True  # the batches that are made from now on
        blobs = self.blobs if device.type == "cpu" else self._on(device)
        if not channels_last:
            return dict(blobs)
        return {
            name: blob.contiguous(memory_format=torch.channels_last) if blob.dim() == 4 else blob
            for name, blob in blobs.items()
        }

    def _on(self, device: torch.device) -> dict[str, Tensor]:
        return {
            name: top.floats(device, self.buffers)
            if not isinstance(top, Tensor)
            else top.to(device, non_blocking=True)
            for name, top in self.tops.items()
        }
