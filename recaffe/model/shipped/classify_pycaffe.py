"""Classify pictures with Caffe itself: python classify_pycaffe.py PICTURE [PICTURE ...]

Wants NumPy, Pillow and pycaffe.
"""

import os
import sys

os.environ.setdefault("GLOG_minloglevel", "2")  # else it logs the whole net
import caffe
from preprocess import HERE, LABELS, MODEL, blob

TOP = 3
caffe.set_mode_cpu()
net = caffe.Net(str(HERE / "deploy.prototxt"), caffe.TEST, weights=str(HERE / "weights.caffemodel"))
for picture in sys.argv[1:]:
    views = blob(picture)
    net.blobs[net.inputs[0]].reshape(*views.shape)
    net.blobs[net.inputs[0]].data[...] = views
    scores = net.forward()[MODEL["output"]].reshape(len(views), len(LABELS), -1).mean((0, 2))
    print(picture)
    for k in scores.argsort()[::-1][:TOP]:
        print(f"  {scores[k]:.6f}  {LABELS[k]}")
