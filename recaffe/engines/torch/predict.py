"""A deploy net over an LMDB: each record exactly once, in order."""

from __future__ import annotations

import numpy as np
import torch

from recaffe.engines.base import Predictions, PredictJob
from recaffe.engines.scoring import data_layer, input_layer
from recaffe.engines.torch.data import Feed
from recaffe.engines.torch.scorer import Scorer
from recaffe.lmdb import read
from recaffe.net.parse import read_net
from recaffe.progress import progress
from recaffe.proto import caffe_pb2 as pb


def predict(job: PredictJob, blob: str = "", title: str = "test") -> Predictions:
    """The net's output (or the named blob, averaged over space) for every record.

    Raises `NetError` if the deploy net's input doesn't fit the records, `WeightsError` if a layer of
    the net isn't in the weights.
    """
    torch.set_num_threads(job.threads)  # the data's too
    param = read_net(job.deploy)
    top, label = input_layer(job, param).top[0], "label"
    data = Feed(pb.NetParameter(layer=[data_layer(job, top, label)]), pb.TEST, seed=0)
    assert data.records is not None  # an LMDB has an end
    scorer = Scorer(job, param, data.shapes[top][1:], blob)
    rows, labels = [], []
    with scorer.ready() as score:
        for batch in progress(data.once(), -(-data.records // job.batch_size), title, "batch"):
            scores, rest = score(batch)
            rows.append(scores)
            labels.append(rest[label].cpu().numpy().astype(np.int64))
    return Predictions(np.concatenate(rows), np.concatenate(labels), read.keys(job.lmdb))
