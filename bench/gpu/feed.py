"""python -m bench.gpu.feed NET.prototxt DEVICE STEPS INTERVALS: the net's data layer alone, to the device.

prints JSON: seconds a batch in each interval after the first, which fills what is made in advance.
"""

from __future__ import annotations

import json
import sys
import time
from contextlib import closing

import torch

from recaffe.engines.torch.data import Feed
from recaffe.engines.torch.upload import on_device
from recaffe.net.parse import read_net
from recaffe.proto import caffe_pb2 as pb


def main() -> None:
    """Ask for batches as fast as they come, and drop them."""
    net, name, steps, intervals = sys.argv[1], sys.argv[2], *map(int, sys.argv[3:5])
    device = torch.device(name)
    feed = Feed(read_net(net), pb.TRAIN, seed=1)
    seconds = []
    with closing(on_device(feed.batches(), device, False, ())) as batches:  # type: ignore[type-var]  # a generator
        for _ in range(intervals + 1):
            began = time.perf_counter()
            for _ in range(steps):
                next(batches)
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            seconds.append((time.perf_counter() - began) / steps)
    print(json.dumps(seconds[1:]))


if __name__ == "__main__":
    main()
