"""The data stages beside Caffe's tools and beside the mere reading of the same files."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np

from bench import inputs
from bench.measure import Row, Way, beside, python, seconds
from recaffe import mean
from recaffe.images import decoded, inventory, scanned
from recaffe.lmdb import read
from recaffe.lmdb.datum import parse_datum

SIDE = 256
CORES = len(os.sched_getaffinity(0))
_SETTINGS = f"""
from recaffe import config
settings = config.complete({{"dataset": "d", "images": "x", "runs": {{"a": {{"weights": "none"}}}},
                            "lmdb": {{"width": {SIDE}, "height": {SIDE}}}}})
"""
_SCAN = f"""
import sys
from pathlib import Path
from recaffe.images.scan import scan
{_SETTINGS}
scan(Path(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3]), settings["scan"], {CORES}, settings["lmdb"])
"""
_PILLOW = """
import sys
from pathlib import Path
from PIL import Image
for path in sorted(Path(sys.argv[1]).rglob("*.jpg")):
    with Image.open(path) as image:
        image.load()
"""
_LMDB = f"""
import sys
from pathlib import Path
from recaffe.images.scan import contents
from recaffe.lmdb.update import update
{_SETTINGS}
list_file, root, out, store, manifest, kept = sys.argv[1:]
update(Path(list_file), root, Path(out), Path(store), settings, 0, {CORES},
       contents(Path(manifest)), kept=Path(kept))
"""
_MEAN = """
import sys
from recaffe import mean
mean.write(mean.compute(sys.argv[1]), sys.argv[2])
"""
_READ = """
import sys
with open(sys.argv[1], "rb", buffering=0) as f:
    room = bytearray(1 << 20)
    while f.readinto(room):
        pass
"""


class Data:
    """What a folder of pictures becomes, in a folder of the bench's own."""

    def __init__(self, work: Path, caffe: Path, count: int, size: tuple[int, int]) -> None:
        self.work, self.caffe, self.count = work / f"{size[0]}x{size[1]}", caffe, count
        self.size = f"{count:,} JPEGs of {size[0]}x{size[1]}"
        self.root = inputs.pictures(self.work / "pictures", count, size)
        self.list = inputs.list_of(self.root, self.work / "list.txt")
        self.inventory, self.manifest = self.work / "inventory.csv", self.work / "manifest.csv"
        self.ours, self.theirs = self.work / "ours_lmdb", self.work / "caffe_lmdb"
        self.inventory_taken()

    def inventory_taken(self) -> float:
        """Seconds of the stat walk, with hashing where a file is new."""
        began = time.perf_counter()
        inventory.take({"path": str(self.root)}, self.inventory, self.work / "cache.csv")
        return time.perf_counter() - began

    def pillow(self) -> float:
        """Seconds to read and decode the same files."""
        return seconds(python(_PILLOW, self.root))

    def scan(self, *, anew: bool = True) -> float:
        """Seconds of the scan; `anew` makes it forget what it has seen."""
        if anew:
            (self.work / scanned.NAME).unlink(missing_ok=True)
            decoded.discard(self.work / decoded.FOLDER)
        rejected = self.work / "rejected.csv"
        return seconds(python(_SCAN, self.inventory, self.manifest, rejected))

    def lmdb(self, *, anew: bool = True, kept: bool = True) -> float:
        """Seconds of the LMDB rule's work; `anew` removes it first, `kept` takes what the scan left."""
        store = self.work / "store"
        if anew:
            for folder in (store, self.ours):
                shutil.rmtree(folder, ignore_errors=True)
        left = self.work / (decoded.FOLDER if kept else "nothing")
        return seconds(python(_LMDB, self.list, self.root, self.ours, store, self.manifest, left))

    def both(self) -> float:
        """Seconds from listed pictures to the LMDB."""
        return self.scan() + self.lmdb()

    def convert_imageset(self) -> float:
        """Seconds of Caffe's tool for the same records."""
        shutil.rmtree(self.theirs, ignore_errors=True)
        sides = [f"--resize_width={SIDE}", f"--resize_height={SIDE}"]
        tool = self.caffe / "bin/convert_imageset"
        return seconds([tool, *sides, f"{self.root}/", self.list, self.theirs])

    def mean(self) -> float:
        """Seconds of the mean of our LMDB."""
        return seconds(python(_MEAN, self.ours, self.work / "mean.binaryproto"))

    def same_records(self) -> str:
        """Raises `AssertionError` unless both LMDBs hold the same pictures and labels."""

        def found(path: Path) -> dict[str, tuple[int, bytes]]:
            return {name: (label, data) for name, label, data in _records(path)}

        assert found(self.ours) == found(self.theirs)
        return "records equal, byte for byte"


def _records(path: Path) -> Iterator[tuple[str, int, bytes]]:
    with read.open_records(path) as items:
        for key, value in items:
            datum = parse_datum(value)
            yield bytes(key).decode().partition("_")[2], datum.label, bytes(datum.data)


def rows(work: Path, caffe: Path, runs: int, quick: bool) -> Iterator[Row]:
    """Scan, LMDB, mean, and an update of one picture in a hundred."""
    share = 8 if quick else 1
    small = Data(work, caffe, 2000 // share, inputs.SMALL)
    large = Data(work, caffe, 48 // share, inputs.LARGE)
    for data in (small, large):
        pillow = Way("Pillow decodes, one process", data.pillow)
        yield beside(f"scan, {data.size}", Way("", data.scan), pillow, runs, 1.8, "all accepted")
        convert = Way("convert_imageset", data.convert_imageset)
        for name, way, target in (
            ("LMDB after the scan", data.lmdb, 2.5),
            ("LMDB without a scan's images", partial(data.lmdb, kept=False), None),
            ("scan and LMDB together", data.both, None),
        ):
            row = beside(f"{name}, {data.size}", Way("", way), convert, runs, target, "")
            row.checked = data.same_records()
            yield row
    yield from _mean(small, runs)
    yield _update(small, runs)


def _mean(data: Data, runs: int) -> Iterator[Row]:
    ours, theirs = data.work / "mean.binaryproto", data.work / "caffe_mean.binaryproto"
    tool, file = data.caffe / "bin/compute_image_mean", data.ours / "data.mdb"
    way = Way("", data.mean)
    other = Way("compute_image_mean", lambda: seconds([tool, data.ours, theirs]))
    row = beside(f"mean, {data.size}", way, other, runs, 8, "")
    apart = float(np.abs(mean.read(ours) - mean.read(theirs)).max())
    assert apart < 0.01, apart
    row.checked = f"means at most {apart:.1g} apart"
    yield row
    once = Way("reading the file once", lambda: seconds(python(_READ, file)))
    yield beside(f"mean, {data.size}", way, once, runs, 0.6, row.checked)


def _update(data: Data, runs: int) -> Row:
    """One picture in a hundred changed: scan, LMDB and mean again, beside all of it from nothing."""
    some = sorted(data.root.rglob("*.jpg"))[::100]

    def change() -> float:
        for path in some:
            with path.open("ab") as f:
                f.write(b"\0")  # another file, the same pixels
        return data.inventory_taken() + data.scan(anew=False) + data.lmdb(anew=False) + data.mean()

    def anew() -> float:
        (data.work / "cache.csv").unlink(missing_ok=True)
        return data.inventory_taken() + data.scan() + data.lmdb() + data.mean()

    ways = Way("", change), Way("all from nothing", anew)
    stage = f"scan, LMDB and mean, 1 % of {data.count:,} changed"
    row = beside(stage, *ways, runs, 1 / 0.03, "")
    change()
    data.convert_imageset()
    row.checked = data.same_records()
    return row
