"""Seconds of one core that a Data layer takes for 1,000 records: TRAIN, 256×256 records, 227×227 crops, mirror, mean file.

    OMP_NUM_THREADS=1 python -m bench.data_layer [--records 1024] [--batch 64] [--runs 7]

The LMDB (smooth noise) is written to a temporary folder first, so it is read from the page cache.
`crops` is what is made in advance and sent to a GPU, which subtracts the mean there; `blobs` is
float32 on the CPU, mean subtracted. Beside them: for crops the 20,000 records a second that the fastest
net consumes on a GPU, and the least that there is to do, a copy of as many windows from memory, or OpenCV's
decoding alone.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import fields
from itertools import islice
from pathlib import Path

import cv2
import lmdb
import numpy as np
import torch

from bench.measure import Row, Way, beside, said
from recaffe import mean
from recaffe.engines.torch.data import Feed
from recaffe.proto import caffe_pb2 as pb

SIZE, CROP = 256, 227
WANTED = 20_000  # records a second
_UNIT = "s per 1,000 records"
_STILL = 0.05  # seconds in which nothing is done


def rows(runs: int, quick: bool) -> Iterator[Row]:
    """The rows, from a process of its own: one thread has to be asked for before it starts."""
    command = [sys.executable, "-m", "bench.data_layer", "--json", "--runs", str(runs)]
    if quick:
        command += ["--records", "64"]
    text = said(command, {"OMP_NUM_THREADS": "1"}, Path(__file__).parents[1])
    for line in text.splitlines():
        if line.startswith("{"):
            yield Row(**json.loads(line))


def main() -> None:
    """Print the rows as the other benches do, or as JSON."""
    parser = argparse.ArgumentParser(prog="python -m bench.data_layer")
    parser.add_argument("--records", type=int, default=1024)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--json", action="store_true", help="rows for a program")
    args = parser.parse_args()
    torch.set_num_threads(1)
    for row in measured(args.records, args.batch, args.runs):
        given = {f.name: getattr(row, f.name) for f in fields(row) if f.init}
        print(json.dumps(given) if args.json else row.line(), flush=True)


def measured(records: int, batch: int, runs: int) -> Iterator[Row]:
    """Raw and JPEG records, each beside its limits."""
    with tempfile.TemporaryDirectory() as folder:
        mean_file = Path(folder) / "mean.binaryproto"
        mean.write(np.full((3, SIZE, SIZE), 100, np.float32), mean_file)
        for encoding in ("raw", "jpg"):
            source = Path(folder) / encoding
            values = fill(source, records, encoding)
            feed = Feed(net(source, mean_file, batch), pb.TRAIN, seed=1)
            for made, dtype in (("crops", np.uint8), ("blobs", np.float32)):
                stage = f"data layer, {encoding}, {made}"
                limit = copying(values, batch, dtype) if encoding == "raw" else decoding(values)
                row = beside(stage, reading(feed, made, records), limit, runs, None, "")
                row.unit = _UNIT
                if (encoding, made) == ("raw", "crops"):
                    wanted = [1000 / WANTED] * runs
                    yield Row(stage, f"{WANTED:,} a second", row.ours, wanted, 1.0, "", _UNIT)
                yield row


def fill(path: Path, records: int, encoding: str) -> list[np.ndarray]:
    """Write an LMDB of smooth noise, which compresses like a photograph; returns what is in it."""
    rng = np.random.default_rng(0)
    values = []
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
                values.append(np.ascontiguousarray(image.transpose(2, 0, 1)))
            else:
                datum.encoded = True
                values.append(cv2.imencode("." + encoding, image)[1])
            datum.data = values[-1].tobytes()
            txn.put(f"{i:08}".encode(), datum.SerializeToString())
    return values


def net(source: Path, mean_file: Path, batch: int) -> pb.NetParameter:
    """A net of nothing but the Data layer."""
    layer = pb.LayerParameter(name="data", type="Data", top=["data", "label"])
    layer.data_param.source, layer.data_param.batch_size = str(source), batch
    layer.data_param.backend = pb.DataParameter.LMDB
    layer.transform_param.crop_size, layer.transform_param.mirror = CROP, True
    layer.transform_param.mean_file = str(mean_file)
    return pb.NetParameter(name="bench", layer=[layer])


def reading(feed: Feed, made: str, records: int) -> Way:
    """One pass of the data layer, of a training that goes on: the LMDB stays open, and mapped."""
    batches = feed.batches()

    def read() -> None:
        for batch in islice(batches, records // feed.batch_size):
            if made == "blobs":
                assert batch.blobs["data"].dtype == torch.float32
        settle()

    return Way(made, lambda: cost(read, records))


def settle() -> None:
    """Wait until the threads have made the batches ahead, which else would count as the other way's."""
    spent = -1.0
    while (now := time.process_time()) - spent > _STILL / 10:
        spent = now
        time.sleep(_STILL)


def copying(values: list[np.ndarray], batch: int, dtype: type[np.generic]) -> Way:
    """A window of each record to a batch that is used again and again."""
    out = np.empty((batch, 3, CROP, CROP), dtype)
    corners = np.random.default_rng(0).integers(0, SIZE - CROP + 1, (len(values), 2))

    def copy() -> None:
        for i, (value, (y, x)) in enumerate(zip(values, corners, strict=True)):
            np.copyto(out[i % batch], value[:, y : y + CROP, x : x + CROP])

    return Way("a copy of the windows", lambda: cost(copy, len(values)))


def decoding(values: list[np.ndarray]) -> Way:
    """OpenCV's decoding alone."""

    def decode() -> None:
        for value in values:
            cv2.imdecode(value, cv2.IMREAD_UNCHANGED)

    return Way("cv2.imdecode", lambda: cost(decode, len(values)))


def cost(work: Callable[[], None], records: int) -> float:
    """Seconds of the core's time for 1,000 records, all threads together."""
    began = time.process_time()  # other programs on the core don't count
    work()
    return (time.process_time() - began) * 1000 / records


if __name__ == "__main__":
    main()
