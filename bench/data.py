"""The data stages beside Caffe's tools and beside the mere reading of the same files."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np

from bench import inputs
from bench.measure import Row, python, seconds
from recaffe import config, mean
from recaffe.files import write_json
from recaffe.images import decoded, inventory, scanned
from recaffe.lmdb import read, records
from recaffe.lmdb.datum import parse_datum

SIDE = 256
CORES = len(os.sched_getaffinity(0))
_SCAN = f"""
import json, sys
from pathlib import Path
from recaffe.images.scan import scan
settings, inventory, manifest, rejected = json.loads(sys.argv[1]), *map(Path, sys.argv[3:])
lmdb = settings["lmdb"] if sys.argv[2] == "images" else None
scan(inventory, manifest, rejected, settings["scan"], {CORES}, lmdb)
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
import json, sys
from pathlib import Path
from recaffe.images.scan import contents
from recaffe.lmdb.update import update
list_file, root, out, store, manifest, kept = sys.argv[2:]
update(Path(list_file), root, Path(out), Path(store), json.loads(sys.argv[1]), 0, {CORES},
       contents(Path(manifest)), kept=Path(kept), add_up=True)
"""
_MEAN = """
import sys
from pathlib import Path
from recaffe import mean
from recaffe.lmdb import totals
mean.write(mean.combine([totals.total_of(Path(sys.argv[1]), Path(sys.argv[2]))], "it"), sys.argv[3])
"""
_READ = """
import sys
with open(sys.argv[1], "rb", buffering=0) as f:
    room = bytearray(1 << 20)
    while f.readinto(room):
        pass
"""


def _settings(mode: str) -> str:
    """What the rules get of the config, as they get it."""
    given = {"dataset": "d", "images": "x", "runs": {"a": {"weights": "none"}}}
    lmdb = {"width": SIDE, "height": SIDE, "fast": mode == "fast"}
    full = config.complete({**given, "lmdb": lmdb})
    return json.dumps({key: full[key] for key in ("lmdb", "scan")})


class Data:
    """What a folder of pictures becomes, in a folder of the bench's own."""

    def __init__(self, work: Path, caffe: Path, count: int, size: tuple[int, int]) -> None:
        self.work, self.caffe, self.count = work / f"{size[0]}x{size[1]}", caffe, count
        self.size = f"{count:,} JPEGs of {size[0]}x{size[1]}"
        self.root = inputs.pictures(self.work / "pictures", count, size)
        self.list = inputs.list_of(self.root, self.work / "list.txt")
        self.inventory, self.manifest = self.work / "inventory.csv", self.work / "manifest.csv"
        self.ours, self.theirs = self.work / "ours_lmdb", self.work / "caffe_lmdb"
        self.store, self.kept = self.work / "store", self.work / decoded.FOLDER

    def inventory_taken(self, *, anew: bool = True) -> float:
        """Seconds of the stat walk, with hashing where a file is new; `anew` makes it forget what it has seen."""
        cache = self.work / "cache.csv"
        if anew:
            cache.unlink(missing_ok=True)
        began = time.perf_counter()
        inventory.take({"path": str(self.root)}, self.inventory, cache)
        return time.perf_counter() - began

    def pillow(self) -> float:
        """Seconds to read and decode the same files."""
        return seconds(python(_PILLOW, self.root))

    def scan(self, mode: str = "exact", *, anew: bool = True, images: bool = True) -> float:
        """Seconds of the scan, which leaves `images` for the LMDB; `anew` makes it forget what it has seen."""
        if anew:
            (self.work / scanned.NAME).unlink(missing_ok=True)
            decoded.discard(self.kept)
        rejected = self.work / "rejected.csv"
        wanted = (
            _settings(mode),
            "images" if images else "",
            self.inventory,
            self.manifest,
            rejected,
        )
        return seconds(python(_SCAN, *wanted))

    def lmdb(self, mode: str = "exact", *, anew: bool = True, kept: bool = True) -> float:
        """Seconds of the LMDB rule's work; `anew` removes it first, `kept` takes what the scan left."""
        if anew:
            for folder in (self.store, self.ours):
                shutil.rmtree(folder, ignore_errors=True)
        left = self.kept if kept else self.work / "nothing"
        wanted = (self.list, self.root, self.ours, self.store, self.manifest, left)
        took = seconds(python(_LMDB, _settings(mode), *wanted))
        write_json(f"{self.ours}.json", read.note(self.ours, records.content(self.store) or ""))
        return took

    def convert_imageset(self) -> float:
        """Seconds of Caffe's tool for the same records."""
        shutil.rmtree(self.theirs, ignore_errors=True)
        sides = [f"--resize_width={SIDE}", f"--resize_height={SIDE}"]
        tool = self.caffe / "bin/convert_imageset"
        return seconds([tool, *sides, f"{self.root}/", self.list, self.theirs])

    def mean(self, *, kept: bool = True) -> float:
        """Seconds of the mean: of the sum that the LMDB's job kept, or of all records, checked first."""
        store = self.store if kept else self.work / "nothing"
        return seconds(python(_MEAN, self.ours, store, self.work / "mean.binaryproto"))

    def compute_image_mean(self) -> float:
        """Seconds of Caffe's tool for it."""
        tool = self.caffe / "bin/compute_image_mean"
        return seconds([tool, self.ours, self.work / "caffe_mean.binaryproto"])

    def read_once(self) -> float:
        """Seconds to read the LMDB's file."""
        return seconds(python(_READ, self.ours / "data.mdb"))

    def change(self) -> None:
        """As after a workflow's end, give one picture in a hundred another content, of the same pixels."""
        decoded.discard(self.kept)
        for path in sorted(self.root.rglob("*.jpg"))[::100]:
            with path.open("ab") as f:
                f.write(b"\0")

    def updated(self) -> float:
        """Seconds of all data stages where something changed."""
        return (
            self.inventory_taken(anew=False)
            + self.scan(anew=False)
            + self.lmdb(anew=False)
            + self.mean()
        )

    def check_records(self) -> None:
        """Raises `AssertionError` unless both LMDBs hold the same pictures and labels."""
        with read.open_records(self.ours) as ours, read.open_records(self.theirs) as theirs:
            assert len(ours) == len(theirs) == self.count
            assert dict(map(_known, ours)) == dict(map(_known, theirs))

    def check_means(self) -> float:
        """The largest difference of the means. Raises `AssertionError` if it is more than Caffe's own rounding."""
        ours, theirs = self.work / "mean.binaryproto", self.work / "caffe_mean.binaryproto"
        apart = float(np.abs(mean.read(ours) - mean.read(theirs)).max())
        assert apart < 0.1, apart
        return apart


def _known(record: tuple[memoryview, memoryview]) -> tuple[str, tuple[int, bytes]]:
    """A record's picture with its label and the digest of its pixels."""
    datum = parse_datum(record[1])
    content = datum.label, hashlib.sha256(datum.data).digest()
    return bytes(record[0]).decode().partition("_")[2], content


def rows(work: Path, caffe: Path, runs: int, quick: bool) -> Iterator[Row]:
    """Scan, LMDB, mean, and an update of one picture in a hundred."""
    share = 10 if quick else 1
    yield from _rows(Data(work, caffe, 20_000 // share**2, inputs.SMALL), runs, update=True)
    yield from _rows(Data(work, caffe, 100 // share, inputs.LARGE), runs, update=False)


def _rows(data: Data, runs: int, *, update: bool) -> Iterator[Row]:
    """All ways take turns, so that one run of Caffe's serves each of ours. What they read was just written."""
    spent: dict[str, list[float]] = defaultdict(list)
    for _ in range(runs):
        for name, way in _ways(data, update=update):
            os.sync()  # for else it would wait for what the way before it has written
            spent[name].append(way())

    def together(*names: str) -> list[float]:
        return list(map(sum, zip(*(spent[name] for name in names), strict=True)))

    def row(stage: str, ours: list[float], other: str, target: float | None, checked: str) -> Row:
        return Row(f"{stage}, {data.size}", other, ours, spent[other], target, checked)

    apart = f"means at most {data.check_means():.1g} apart"
    same, fast = "records equal, byte for byte", 4 if update else 12
    convert, cim, once = "convert_imageset", "compute_image_mean", "reading the file once"
    pillow, whole = "Pillow decodes, one process", "all accepted"
    yield row("scan alone", spent["scan alone"], pillow, 1.8, whole)
    yield row("scan that leaves the LMDB's images", spent["scan"], pillow, None, whole)
    yield row("LMDB after the scan", spent["lmdb"], convert, 2.5, same)
    yield row("LMDB without a scan's images", spent["lmdb alone"], convert, None, same)
    yield row("scan and LMDB together", together("scan", "lmdb"), convert, None, same)
    yield row("fast: LMDB after the scan", spent["fast lmdb"], convert, fast, "")
    alone = spent["fast lmdb alone"]
    yield row("fast: LMDB without a scan's images", alone, convert, None, "")
    yield row("fast: scan and LMDB together", together("fast scan", "fast lmdb"), convert, None, "")
    if update:
        yield row("mean, of the sum that the LMDB's job keeps", spent["mean"], cim, 8, apart)
        yield row("mean, of checked records", spent["mean alone"], cim, None, apart)
        yield row("mean, of checked records", spent["mean alone"], once, 0.6, apart)
        spent["all from nothing"] = together("inventory", "scan", "lmdb", "mean")
        yield row("all data stages, 1 % changed", spent["update"], "all from nothing", 33.3, same)


def _ways(data: Data, *, update: bool) -> Iterator[tuple[str, Callable[[], float]]]:
    """What is done in each run, in order, by name."""
    yield "inventory", data.inventory_taken
    yield "fast scan", partial(data.scan, "fast")
    yield "fast lmdb", partial(data.lmdb, "fast")
    yield "fast lmdb alone", partial(data.lmdb, "fast", kept=False)
    yield "Pillow decodes, one process", data.pillow
    yield "lmdb alone", partial(data.lmdb, kept=False)
    yield "convert_imageset", data.convert_imageset
    data.check_records()
    yield "scan alone", partial(data.scan, images=False)
    yield "scan", data.scan
    yield "lmdb", data.lmdb
    data.check_records()
    yield "mean", data.mean
    yield "mean alone", partial(data.mean, kept=False)
    yield "compute_image_mean", data.compute_image_mean
    yield "reading the file once", data.read_once
    if update:
        data.change()
        yield "update", data.updated
        data.check_records()
