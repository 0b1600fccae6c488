"""A net over its own Data layer, in pycaffe's Python: `pycaffe_scores.py JOB.json`.

Only NumPy and caffe, since recaffe isn't installed there. The job's keys: net, weights, blob, label,
batches, scores and labels (.npy to write), gpu (null: the CPU).
"""

import json
import sys
from pathlib import Path

import numpy as np


def main(path):
    """Write float32 scores, batches × batch rows, and their labels; a line on stdout for each batch."""
    job = json.loads(Path(path).read_text(encoding="utf-8"))
    import caffe  # type: ignore[import-not-found]  # in that Python

    if job["gpu"] is None:
        caffe.set_mode_cpu()
    else:
        caffe.set_device(job["gpu"])
        caffe.set_mode_gpu()
    net = caffe.Net(job["net"], caffe.TEST, weights=job["weights"])
    if job["blob"] not in net.blobs:
        sys.exit("The net has no blob {!r}; it has {}.".format(job["blob"], ", ".join(net.blobs)))
    scores, labels = [], []
    for done in range(job["batches"]):
        net.forward()
        value = np.array(net.blobs[job["blob"]].data, np.float32)
        if value.ndim == 4:
            value = value.mean(axis=(2, 3))
        scores.append(value.reshape(len(value), -1))
        labels.append(np.array(net.blobs[job["label"]].data).astype(np.int64).ravel())
        print("recaffe: batch", done + 1, flush=True)
    np.save(job["scores"], np.concatenate(scores))
    np.save(job["labels"], np.concatenate(labels))


main(sys.argv[1])
