"""A deploy net with its weights, ready on a device: batches of pictures in, rows of scores out."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import torch

from recaffe.allocator import keep_freed_memory
from recaffe.engines.base import PredictJob
from recaffe.engines.scoring import check_shape, input_layer
from recaffe.engines.torch.data import Batch
from recaffe.engines.torch.devices import pick_device
from recaffe.engines.torch.memory import explained_pass
from recaffe.engines.torch.net import Net
from recaffe.net import weights
from recaffe.net.shapes import Shape
from recaffe.proto import caffe_pb2 as pb


class Scorer:
    """The job's net for pictures of C×H×W, as they are after the crop.

    `blob` is what it yields, averaged over space: the net's last output if it is "". Then each layer
    must find its weights; a blob in the middle is of pretrained weights, which may lack the head.
    `what` names the setting to lower where memory lacks. `top` is the input's blob.

    Raises `NetError` if the net's input has another shape, `WeightsError` if a layer isn't in the
    weights, or has other shapes there.
    """

    def __init__(
        self,
        job: PredictJob,
        param: pb.NetParameter,
        shape: Shape,
        blob: str = "",
        what: str = "test_batch_size",
    ) -> None:
        if job.threads:
            torch.set_num_threads(job.threads)
        self.device = pick_device(job.device)
        if self.device.type == "cpu":
            keep_freed_memory()
        source = input_layer(job, param)
        check_shape(job, source, shape)
        self.top, self.batch_size, self.what = source.top[0], job.batch_size, what
        source.input_param.shape[0].dim[0] = job.batch_size
        self.net = Net(param, pb.TEST, {self.top: (job.batch_size, *shape)}, filled=bool(blob))
        if blob:
            self.net.load(weights.read(job.weights, self.net.layers))
        else:
            self.net.load(weights.of_net(self.net.walked, job.weights))
        self.blob = blob or self.net.outputs[-1]

    @contextmanager
    def ready(self) -> Iterator[Callable[[Batch], tuple[np.ndarray, dict[str, torch.Tensor]]]]:
        """Within it, a batch gives its scores, float32 N×K, and its other blobs, such as labels."""
        with explained_pass(self.net.walked, self.device, self.batch_size, self.what):
            self.net.to(self.device)
            yield self._score

    @torch.no_grad()
    def _score(self, batch: Batch) -> tuple[np.ndarray, dict[str, torch.Tensor]]:
        blobs = batch.to(self.device, channels_last=True)
        rest = {name: blobs.pop(name) for name in list(blobs) if name != self.top}
        value = self.net(blobs)[self.blob]
        if value.dim() == 4:
            value = value.mean((2, 3))
        return value.reshape(batch.size, -1).cpu().numpy(), rest
