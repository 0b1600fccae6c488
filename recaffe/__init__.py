"""recaffe: fine-tune Caffe nets on your own pictures."""

import os

__version__ = "0.1.0"

# OpenCV reads this when it is imported: a small file may say that it is larger, and OpenCV would
# make room for 2³⁰ pixels.
os.environ.setdefault("OPENCV_IO_MAX_IMAGE_PIXELS", str(100_000_000))

if "RECAFFE_MAIN" in os.environ:
    # A workflow's job, whose imports take seconds in which it may be stopped.
    from recaffe import stop

    stop.listen_early()
