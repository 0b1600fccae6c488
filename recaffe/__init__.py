"""recaffe: fine-tune Caffe nets on your own pictures."""

__version__ = "0.1.0"
