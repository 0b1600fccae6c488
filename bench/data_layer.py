"""Records a second of one core's time that a Data layer gives: TRAIN, 227×227 crops, mirror, mean file.

    OMP_NUM_THREADS=1 python bench/data_layer.py [--records 1024] [--batch 64] [--repeats 7]

The LMDB (256×256 records of noise) is written to a temporary folder first, so it is read from the
page cache. `crops` is what is made in advance and sent to a GPU, which subtracts the mean there;
`blobs` is float32 on the CPU, mean subtracted.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import cv2
import lmdb
import numpy as np
import torch

from recaffe import mean
from recaffe.engines.torch.data import Batch, Feed
from recaffe.proto import caffe_pb2 as pb

SIZE, CROP = 256, 227


def main() -> None:
    """Print a table: median, slowest and fastest of the repeats."""
    parser = argparse.ArgumentParser(description="Measure the Data layer.")
    parser.add_argument("--records", type=int, default=1024)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=7)
    args = parser.parse_args()
    torch.set_num_threads(1)
    print(f"{'records':10}{'made':10}{'median/s':>10}{'slowest':>10}{'fastest':>10}")
    with tempfile.TemporaryDirectory() as folder:
        mean_file = Path(folder) / "mean.binaryproto"
        mean.write(np.full((3, SIZE, SIZE), 100, np.float32), mean_file)
        for encoding in ("raw", "jpg"):
            source = Path(folder) / encoding
            fill(source, args.records, encoding)
            feed = Feed(net(source, mean_file, args.batch), pb.TRAIN, seed=1)
            for made in ("crops", "blobs"):
                rates = [rate(feed, made, args.records) for _ in range(args.repeats + 1)][1:]
                print(
                    f"{encoding:10}{made:10}{statistics.median(rates):10.0f}{min(rates):10.0f}"
                    f"{max(rates):10.0f}"
                )


def fill(path: Path, records: int, encoding: str) -> None:
    """An LMDB of smooth noise, which compresses like a photograph."""
    rng = np.random.default_rng(0)
    with (
        lmdb.open(str(path), map_size=records * SIZE * SIZE * 4 + 2**24, sync=False) as env,
        env.begin(write=True) as txn,
    ):
        for i in range(records):
            small = rng.integers(0, 256, (64, 64, 3), dtype=np.uint8)
            image = cv2.resize(small, (SIZE, SIZE), interpolation=cv2.INTER_CUBIC)
            datum = pb.Datum(label=i % 10)
            if encoding == "raw":
                datum.channels, datum.height, datum.width = 3, SIZE, SIZE
                datum.data = image.transpose(2, 0, 1).tobytes()
            else:
                datum.encoded, datum.data = True, cv2.imencode("." + encoding, image)[1].tobytes()
            txn.put(f"{i:08}".encode(), datum.SerializeToString())


def net(source: Path, mean_file: Path, batch: int) -> pb.NetParameter:
    """A net of nothing but the Data layer."""
    layer = pb.LayerParameter(name="data", type="Data", top=["data", "label"])
    layer.data_param.source, layer.data_param.batch_size = str(source), batch
    layer.data_param.backend = pb.DataParameter.LMDB
    layer.transform_param.crop_size, layer.transform_param.mirror = CROP, True
    layer.transform_param.mean_file = str(mean_file)
    return pb.NetParameter(name="bench", layer=[layer])


def rate(feed: Feed, made: str, records: int) -> float:
    """Records a second of the core's time, all threads together, in one pass."""
    began = time.process_time()  # other programs on the core don't count
    for batch in feed.once():
        look(batch, made)
    return records / (time.process_time() - began)


def look(batch: Batch, made: str) -> None:
    """Take what is measured, and let go of it."""
    if made == "blobs":
        assert batch.blobs["data"].dtype == torch.float32


if __name__ == "__main__":
    main()
