"""A deploy net over an LMDB: each record exactly once, in order."""

from __future__ import annotations

import numpy as np
import torch

from recaffe.engines.base import Predictions, PredictJob
from recaffe.engines.scoring import check_shape, data_layer, input_layer
from recaffe.engines.torch.allocator import keep_freed_memory
from recaffe.engines.torch.data import Feed
from recaffe.engines.torch.devices import pick_device
from recaffe.engines.torch.memory import explained_pass
from recaffe.engines.torch.net import Net
from recaffe.lmdb import read
from recaffe.net import weights
from recaffe.net.parse import read_net
from recaffe.progress import progress
from recaffe.proto import caffe_pb2 as pb


def predict(job: PredictJob, blob: str = "", title: str = "test") -> Predictions:
    """The net's output (or the named blob, averaged over space) for every record.

    Raises `NetError` if the deploy net's input doesn't fit the records.
    """
    torch.set_num_threads(job.threads)
    device = pick_device(job.device)
    if device.type == "cpu":
        keep_freed_memory()
    param = read_net(job.deploy)
    source = input_layer(job, param)
    top, label = source.top[0], "label"
    data = Feed(pb.NetParameter(layer=[data_layer(job, top, label)]), pb.TEST, seed=0)
    assert data.records is not None  # an LMDB has an end
    shape = data.shapes[top]
    check_shape(job, source, shape[1:])
    source.input_param.shape[0].dim[0] = job.batch_size
    net = Net(param, pb.TEST, {top: shape})
    net.load(weights.read(job.weights, net.layers))
    wanted_blob = blob or net.outputs[-1]
    rows, labels = [], []
    with explained_pass(net.walked, device, job.batch_size, "test_batch_size"), torch.no_grad():
        net.to(device)
        for batch in progress(data.once(), -(-data.records // job.batch_size), title, "batch"):
            blobs = batch.to(device, channels_last=True)
            labels.append(blobs.pop(label).cpu().numpy().astype(np.int64))
            value = net(blobs)[wanted_blob]
            if value.dim() == 4:
                value = value.mean((2, 3))
            rows.append(value.reshape(batch.size, -1).cpu().numpy())
    return Predictions(np.concatenate(rows), np.concatenate(labels), read.keys(job.lmdb))
