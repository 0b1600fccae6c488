"""What every data layer has in common: the steps it is asked for, and how it names its mistakes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial

from recaffe.augment import Augment
from recaffe.engines.torch.data import mixup
from recaffe.engines.torch.data.batch import Buffers
from recaffe.engines.torch.data.mixup import Blobs, Mix
from recaffe.errors import NetError, RecaffeError
from recaffe.net.inputs import batch_size
from recaffe.net.shapes import Shape
from recaffe.proto import caffe_pb2 as pb

Load = Callable[[], Blobs]
Loads = Iterator[Load]


@dataclass(frozen=True)
class Setting:
    """What a layer is built in: phase, seed, which of the net's data layers it is, and memory.

    `augment` and `view` are the `Transform`'s.
    """

    training: bool
    seed: int
    stream: int
    buffers: Buffers
    augment: Augment | None = None
    view: int | None = None


@dataclass(frozen=True)
class Step:
    """This process's `rows` of batch `index` with `total` records; `start` is the first one's place.

    Places count on from epoch to epoch: place p is record p % records of epoch p // records.
    """

    index: int
    total: int
    rows: range
    start: int


class Source(ABC):
    """A data layer. `batch_size` is the whole batch's, over all processes.

    `records` is None where there is no end. `shapes` are the tops' for a whole batch. `skip` is the
    place where training starts. `decodes` says that it has work for several threads.
    """

    batch_size: int
    records: int | None = None
    skip: int = 0
    decodes: bool = False

    def __init__(self, layer: pb.LayerParameter, setting: Setting) -> None:
        self.layer, self.setting, self.tops = layer, setting, list(layer.top)
        if layer.bottom:
            raise NetError("a data layer takes no bottom.")

    @property
    @abstractmethod
    def shapes(self) -> dict[str, Shape]:
        """Top → shape for a whole batch."""

    @abstractmethod
    def reading(self, steps: Iterator[Step]) -> AbstractContextManager[Loads]:
        """For each step what makes its blobs, called later and in threads; all within the context."""

    def want_tops(self, least: int, most: int) -> None:
        """Raises `NetError` unless the layer has that many tops."""
        if not least <= len(self.tops) <= most:
            wanted = f"{least}" if least == most else f"{least} or {most}"
            raise NetError(f"it has {len(self.tops)} tops; Caffe wants {wanted}.")

    def mix(self, step: Step) -> Mix | None:
        """How the step's rows are mixed with others, or None."""
        s = self.setting
        return mixup.of_step(s.augment, s.seed, step.index, step.total, step.rows)

    def want_batch(self) -> None:
        """Take the batch size; raises `NetError` if it is missing."""
        size = batch_size(self.layer)
        if size < 1:
            raise NetError("batch_size is missing or 0.")
        self.batch_size = size


class Placed(Source):
    """A data layer that can go to any place at once."""

    @abstractmethod
    def load(self, step: Step) -> Blobs:
        """The blobs of one step. Called by several threads at a time."""

    @contextmanager
    def reading(self, steps: Iterator[Step]) -> Iterator[Loads]:
        """`load` for each step."""
        yield (partial(self.load, step) for step in steps)


@contextmanager
def named(layer: pb.LayerParameter) -> Iterator[None]:
    """Errors in the block begin with the layer's name and type."""
    try:
        yield
    except RecaffeError as error:
        raise type(error)(f"Layer {layer.name!r} ({layer.type}): {error}") from error
