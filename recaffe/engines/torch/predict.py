"""A deploy net over an LMDB: each record exactly once, in order."""

from __future__ import annotations

import numpy as np
import torch

from recaffe.engines import views
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
    _, height, width = read.first_shape(job.lmdb)
    views.check(job.crops, job.crop_size, (height, width))
    net = pb.NetParameter(layer=[data_layer(job, top, label)])
    feeds = [Feed(net, pb.TEST, seed=0, view=view) for view in views.of(job.crops)]
    data = feeds[0]
    assert data.records is not None  # an LMDB has an end
    scorer = Scorer(job, param, data.shapes[top][1:], blob)
    rows, labels = [], []
    batches = zip(*(feed.once() for feed in feeds), strict=True)
    with scorer.ready() as score:
        for batch in progress(batches, -(-data.records // job.batch_size), title, "batch"):
            found = [score(view) for view in batch]
            rows.append(views.mean([scores for scores, _ in found]))
            labels.append(found[0][1][label].cpu().numpy().astype(np.int64))
    return Predictions(np.concatenate(rows), np.concatenate(labels), read.keys(job.lmdb))
