"""A net over its own Data layer, in pycaffe's Python: `pycaffe_scores.py JOB.json`.

Only NumPy and caffe, since recaffe isn't installed there. The job's keys: net, weights, blob, label,
batches, scores and labels (.npy to write), gpu (null: the CPU). With `crops` the net only reads whole
records, whose crops another one scores; its keys: net, input, size, views (top, left, mirrored), mean
(.npy, or null), scale.
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
    crops = job["crops"]
    scorer = caffe.Net(crops["net"] if crops else job["net"], caffe.TEST, weights=job["weights"])
    net = caffe.Net(job["net"], caffe.TEST) if crops else scorer
    if job["blob"] not in scorer.blobs:
        sys.exit(
            "The net has no blob {!r}; it has {}.".format(job["blob"], ", ".join(scorer.blobs))
        )
    scores, labels = [], []
    for done in range(job["batches"]):
        net.forward()
        if crops:
            records = np.array(net.blobs[crops["input"]].data)
            found = []
            for view in windows(records, crops):
                scorer.blobs[crops["input"]].data[...] = view
                scorer.forward()
                found.append(read(scorer, job["blob"]))
            scores.append(np.mean(found, 0, np.float64).astype(np.float32))
        else:
            scores.append(read(net, job["blob"]))
        labels.append(np.array(net.blobs[job["label"]].data).astype(np.int64).ravel())
        print("recaffe: batch", done + 1, flush=True)
    np.save(job["scores"], np.concatenate(scores))
    np.save(job["labels"], np.concatenate(labels))


def read(net, blob):
    """A blob as N×K, averaged over space."""
    value = np.array(net.blobs[blob].data, np.float32)
    if value.ndim == 4:
        value = value.mean(axis=(2, 3))
    return value.reshape(len(value), -1)


def windows(records, crops):
    """(record - mean) * scale in each view."""
    values = records - np.load(crops["mean"]) if crops["mean"] else records
    values = values * np.float32(crops["scale"])
    for top, left, mirrored in crops["views"]:
        view = values[:, :, top : top + crops["size"], left : left + crops["size"]]
        yield view[:, :, :, ::-1] if mirrored else view


main(sys.argv[1])
