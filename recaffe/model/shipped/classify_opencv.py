"""Classify pictures with OpenCV's DNN module: python classify_opencv.py PICTURE [PICTURE ...]

Wants NumPy, Pillow and OpenCV (opencv-python-headless) 3.3 to 4.
"""

import sys

import cv2
from preprocess import HERE, LABELS, blob

TOP = 3
net = cv2.dnn.readNetFromCaffe(str(HERE / "deploy.prototxt"), str(HERE / "weights.caffemodel"))
for picture in sys.argv[1:]:
    views = blob(picture)
    net.setInput(views)
    scores = net.forward().reshape(len(views), len(LABELS), -1).mean((0, 2))
    print(picture)
    for k in scores.argsort()[::-1][:TOP]:
        print(f"  {scores[k]:.6f}  {LABELS[k]}")
