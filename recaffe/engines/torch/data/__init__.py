"""The data layers of a net: what they read, transformed as Caffe does it, a few batches ahead."""

from recaffe.engines.torch.data.batch import Batch
from recaffe.engines.torch.data.feed import Feed

__all__ = ["Batch", "Feed"]
