"""Memory of the LMDB's job and of the mean's at growing numbers of pictures, and what a million would take.

    python -m bench memory            # 1,000 to 100,000 pictures, some minutes; rows in bench/results/memory.csv
    python -m bench memory --quick    # 200 and 1,000

Each job is a process of its own, which calls what the rule's script calls. Every 20 ms its anonymous memory
is read (RssAnon in /proc/PID/status: not the LMDB's mapped file, which the kernel takes back as it likes): of the
process itself and of each of its workers. The total is Pss_Anon of all of them, in which a page that a
worker shares with the process that it was forked from counts once. The largest of each is the row's; a busy machine
measures the same. Pictures are PNGs of 16×16 pixels, each with bytes of its own, and names of 49 letters; records are
16×16, and once 256×256.
"""

from __future__ import annotations

import csv
import hashlib
import json
import os
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import astuple, dataclass
from pathlib import Path

import cv2
import numpy as np

from bench import measure
from bench.measure import Row, python
from recaffe import config
from recaffe.images.scan import MANIFEST
from recaffe.images.split import record_key

COUNTS, QUICK = (1_000, 10_000, 50_000, 100_000), (200, 1_000)
GOAL, MANY = 500, 1_000_000  # megabytes at so many pictures
FIELDS = (
    "job", "record", "pictures", "unit", "process", "worker", "total", "workers", "bytes_a_picture", "at_1000000",
)  # fmt: skip
CORES = len(os.sched_getaffinity(0))
_LARGE = 256
_EVERY = 0.02
_LMDB = """
import json, sys
from pathlib import Path
from recaffe.files import write_json
from recaffe.images.scan import contents
from recaffe.lmdb.update import update
folder = Path(sys.argv[2])
note = update(folder / "train.txt", str(folder / "pictures"), folder / "train_lmdb", folder / "store",
              json.loads(sys.argv[1]), 0, int(sys.argv[3]), contents(folder / "manifest.csv"), add_up=True)
write_json(folder / "train_lmdb.json", note)
"""
# As where no sum of the records is kept.
_MEAN = """
import sys
from pathlib import Path
from recaffe import mean
from recaffe.lmdb import totals
lmdb = Path(sys.argv[1]) / "train_lmdb"
total = totals.total_of(lmdb, lmdb.with_name("no store"))
mean.write(mean.combine([total], lmdb), lmdb.with_name("mean.binaryproto"))
"""


@dataclass
class Peak:
    """The most of a job's anonymous memory, in bytes: process, largest worker, all; and its workers at once."""

    process: int = 0
    worker: int = 0
    total: int = 0
    workers: int = 0

    def see(self, pid: int) -> None:
        """Take another look."""
        below = _children(pid)
        self.process = max(self.process, _field(pid, "status", "RssAnon"))
        self.worker = max([self.worker, *(_field(p, "status", "RssAnon") for p in below)])
        all_of_them = sum(_field(p, "smaps_rollup", "Pss_Anon") for p in (pid, *below))
        self.total, self.workers = max(self.total, all_of_them), max(self.workers, len(below))


def of(command: list[str]) -> Peak:
    """The peak of a command. Raises `RuntimeError` with what it said if it fails."""
    peak = Peak()
    with tempfile.TemporaryFile() as said:
        with subprocess.Popen(command, stdout=said, stderr=said) as process:
            while process.poll() is None:
                peak.see(process.pid)
                time.sleep(_EVERY)
        if process.returncode:
            said.seek(0)
            raise RuntimeError(said.read().decode(errors="replace")[-2000:])
    return peak


def _children(pid: int) -> list[int]:
    try:
        said = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii")
    except OSError:  # it has ended
        return []
    return [int(child) for child in said.split()]


def _field(pid: int, file: str, name: str) -> int:
    """Bytes in a field of a process's file; 0 of a process that has ended."""
    try:
        with Path(f"/proc/{pid}/{file}").open(encoding="ascii", errors="replace") as lines:
            return next(
                (1024 * int(line.split()[1]) for line in lines if line.startswith(f"{name}:")), 0
            )
    except OSError:
        return 0


def pictures(folder: Path, count: int) -> None:
    """Pictures, with the manifest and the list that scan and split would write of them."""
    image = np.random.default_rng(0).integers(0, 255, (16, 16, 3), dtype=np.uint8)
    _, png = cv2.imencode(".png", image)
    names = [f"n{i % 1000:08d}/n{i % 1000:08d}_{i:08d}_photograph_a.png" for i in range(count)]
    for name in sorted({name.partition("/")[0] for name in names}):
        (folder / "pictures" / name).mkdir(parents=True, exist_ok=True)
    with (folder / "manifest.csv").open("w", encoding="utf-8", newline="") as f:
        table = csv.DictWriter(f, MANIFEST, restval="0" * 32, lineterminator="\n")
        table.writeheader()
        for i, name in enumerate(names):
            data = png.tobytes() + i.to_bytes(4, "little")  # what follows a PNG's end is no picture
            (folder / "pictures" / name).write_bytes(data)
            digest = hashlib.sha256(data).hexdigest()
            table.writerow({"root": folder / "pictures", "path": name, "sha256": digest})
    keyed = sorted((record_key(name, 0), f"{name} {i % 1000}\n") for i, name in enumerate(names))
    (folder / "train.txt").write_text("".join(line for _, line in keyed), encoding="utf-8")


def change(folder: Path) -> None:
    """One picture in a hundred gets other bytes, and the manifest says so."""
    with (folder / "manifest.csv").open(encoding="utf-8", newline="") as f:
        rows = list(csv.DictReader(f))
    for row in rows[::100]:
        path = Path(row["root"]) / row["path"]
        data = path.read_bytes() + b"changed"
        path.write_bytes(data)
        row["sha256"] = hashlib.sha256(data).hexdigest()
    with (folder / "manifest.csv").open("w", encoding="utf-8", newline="") as f:
        table = csv.DictWriter(f, MANIFEST, lineterminator="\n")
        table.writeheader()
        table.writerows(rows)


def jobs(folder: Path, count: int, side: int) -> Iterator[tuple[str, Peak]]:
    """Each job's peak, one after the other, over pictures of their own."""
    folder.mkdir()
    pictures(folder, count)
    settings = config.complete(
        {
            "dataset": "d", "images": "x", "runs": {"a": {"weights": "none"}},
            "lmdb": {"width": side, "height": side},
        }
    )  # fmt: skip
    lmdb = python(_LMDB, json.dumps(settings), folder, CORES)
    yield "LMDB", of(lmdb)
    yield "mean", of(python(_MEAN, folder))
    change(folder)
    yield "LMDB, 1 % changed", of(lmdb)


def rows(work: Path, quick: bool, out: Path) -> Iterator[Row]:
    """Each job's memory at each number of pictures beside the goal; all of it to the table `out`."""
    counts = QUICK if quick else COUNTS
    points = [*((count, 16) for count in counts), (counts[1], _LARGE)]
    about, table = measure.machine(), list[dict[str, str]]()
    seen: dict[str, list[tuple[int, int]]] = {}
    for count, side in points:
        with tempfile.TemporaryDirectory(dir=work) as name:
            for job, peak in jobs(Path(name) / "data", count, side):
                sizes = [f"{x / 1e6:.1f}" for x in astuple(peak)[:3]]
                cells = dict(
                    zip(FIELDS, (job, f"{side}x{side}", str(count), "MB", *sizes), strict=False)
                )
                table.append({**cells, "workers": str(peak.workers)})
                measure.write(out, FIELDS, table, about)
                stage = f"memory, {job}, {count:,} records of {side}x{side}"
                yield _row(stage, peak.total)
                if side != _LARGE:
                    seen.setdefault(job, []).append((count, peak.total))
    for job, found in seen.items():
        growth, there = expected(found)
        cells = {"job": job, "record": "16x16", "unit": "MB"}
        table.append(
            {**cells, "bytes_a_picture": f"{growth:.0f}", "at_1000000": f"{there / 1e6:.0f}"}
        )
        measure.write(out, FIELDS, table, about)
        print(f"  {job}: {growth:.0f} bytes a picture")
        yield _row(f"memory, {job}, {MANY:,} by its growth", there)


def expected(found: list[tuple[int, int]]) -> tuple[float, float]:
    """Bytes that a picture more takes, and bytes at a million, from (pictures, bytes) at growing numbers.

    Of the last two: buffers of a size of their own are full by then.
    """
    (before, small), (count, size) = found[-2:]
    growth = max(0.0, (size - small) / (count - before))
    return growth, size + growth * (MANY - count)


def _row(stage: str, size: float) -> Row:
    """A line of the terminal: megabytes, and the goal by them."""
    return Row(stage, "the goal", [size / 1e6], [float(GOAL)], 1.0, "", "MB")
