"""What a million, a hundred million and ten thousand million pictures would cost, from a measured cost a picture.

    OMP_NUM_THREADS=1 python -m bench.scale [--pictures 300] [--rows 20000] [--nodes 100] [--cores 8]

Each stage's library function runs on a few made-up pictures (500×375, JPEG) in a process of its own, whose CPU
seconds and memory count, so that a busy machine measures the same. Rows of tables are measured on more of them,
at two sizes. What is assumed and not measured stands at the top of the output.
"""

from __future__ import annotations

import argparse
import csv
import functools
import math
import multiprocessing
import os
import platform
import resource
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from bench.measure import processor
from recaffe import config, mean
from recaffe.images import inventory, scan, split
from recaffe.lmdb.entries import Entries, read_list
from recaffe.lmdb.update import update

COUNTS = (10**6, 10**8, 10**10)
# Assumed: ImageNet's mean file, a shard that a job writes in hours, a GPU of 2020 on CaffeNet's like.
PICTURE_BYTES, RECORD_BYTES, SHARD, GPU_RATE, EPOCHS = 110_000, 196_700, 10**6, 2000, 30
MEMORY = 512e9  # bytes of a large node
WEEK = 168.0


@dataclass(frozen=True)
class Cost:
    """Of one picture: CPU seconds, bytes of memory in the job that holds all rows, bytes on disk."""

    seconds: float
    memory: float = 0.0
    disk: float = 0.0


@dataclass(frozen=True)
class Stage:
    """Seconds of all its cores (or GPUs), jobs, how many work at once, bytes of memory of one, bytes read."""

    seconds: float
    jobs: int = 0
    width: int = 1
    memory: float = 0.0
    read: float = 0.0


def main() -> None:
    """Measure, then print a table for each count of pictures."""
    parser = argparse.ArgumentParser(description="Plan for very many pictures.")
    parser.add_argument("--pictures", type=int, default=300)
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--nodes", type=int, default=100)
    parser.add_argument("--cores", type=int, default=8)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        costs = measure(Path(name), args.pictures, args.rows)
    print(
        f"Machine: {processor()['processor']}, {os.cpu_count()} cores, {platform.system()} {platform.release()}"
    )
    print(
        f"Assumed: {PICTURE_BYTES:,} bytes a picture, {EPOCHS} epochs at {GPU_RATE} pictures a second and GPU, shards of "
        f"{SHARD:,}, {args.nodes} nodes of {args.cores} cores\n"
    )
    print("| Of one picture | CPU ms | memory, bytes | disk, bytes |\n| --- | --- | --- | --- |")
    for stage, cost in costs.items():
        print(f"| {stage} | {1000 * cost.seconds:.3f} | {cost.memory:,.0f} | {cost.disk:,.0f} |")
    for count in COUNTS:
        plan(count, costs, args.nodes, args.cores)


def measure(folder: Path, pictures: int, rows: int) -> dict[str, Cost]:
    """Cost of each stage of one picture."""
    settings = config.complete(
        {"dataset": "x", "images": {"path": "x"}, "runs": {"x": {"weights": "none"}}}
    )
    write_pictures(folder / "pictures", pictures)
    table, manifest, bad = (folder / f"{n}.csv" for n in ("inventory", "manifest", "rejected"))
    images = {**settings["images"], "path": str(folder / "pictures")}
    listed = spent(inventory.take, images, table, folder / "cache.csv")
    scanned = spent(scan.scan, table, manifest, bad, settings["scan"], 1)
    lists = folder / "lists"
    lists.mkdir()
    # Few pictures lie in no split as they should: the shares are met up to chance.
    shares = {**settings["split"], "val": 0.2, "test": 0.2}
    chosen = {"split": shares, "scan": settings["scan"]}
    split.write(manifest, table, bad, lists, chosen)
    found = list(scan.contents(manifest))
    count = len((lists / "train.txt").read_text().splitlines())
    root = next(iter(scan.read_manifest(manifest)))["root"]
    out = folder / "train_lmdb"
    recipe = {"lmdb": settings["lmdb"], "scan": settings["scan"]}
    written = spent(update, lists / "train.txt", root, out, folder / "store", recipe, 0, 1, found)
    averaged = spent(mean.compute, out)
    per_row = {}
    for size in (rows, 2 * rows):
        repeat(manifest, folder / "many.csv", size)
        names = folder / f"{size} names"
        listing = ({**images, "path": str(names)}, Path(f"{names}.csv"), Path(f"{names}.cache"))
        write_names(names, size)
        inventory.take(*listing)
        per_row[size] = (
            spent(split.write, folder / "many.csv", table, bad, lists, chosen),
            spent(scan.read_manifest, folder / "many.csv"),
            spent(entries_of, folder / "many.txt", root, folder / "many.csv"),
            spent(entries_of, folder / "many.txt", root, folder / "many.csv", (0, 100)),
            spent(inventory.take, *listing),  # as each later run does
        )
    cut, read, entry, passed, walked = (
        [(b - a) / rows for a, b in zip(per_row[rows][i], per_row[2 * rows][i], strict=True)]
        for i in range(5)
    )
    return {
        "inventory": Cost(listed[0] / pictures, walked[1], table.stat().st_size / pictures),
        "scan": Cost(scanned[0] / pictures, read[1], manifest.stat().st_size / pictures),
        "split": Cost(cut[0], cut[1], 50),
        "a row of list and manifest, in each LMDB job": Cost(passed[0]),
        "lmdb": Cost(written[0] / count, entry[1], RECORD_BYTES),
        "mean": Cost(averaged[0] / count),
    }


def plan(count: int, costs: dict[str, Cost], nodes: int, cores: int) -> None:
    """Print what each stage takes for so many pictures, and what gives way first."""
    shards = max(1, count // SHARD)
    jobs = 3 * shards  # train, val and test
    pictures, records = count * PICTURE_BYTES, count * RECORD_BYTES
    row = costs["a row of list and manifest, in each LMDB job"]
    cpu = {name: cost.seconds * count for name, cost in costs.items()}
    held = costs["scan"].memory * count
    of_shard = costs["lmdb"].memory * count / shards
    stages = {
        "inventory": Stage(
            cpu["inventory"], memory=costs["inventory"].memory * count, read=pictures
        ),
        "scan": Stage(cpu["scan"], 1, cores, held, pictures),
        "split": Stage(cpu["split"], 1, memory=costs["split"].memory * count),
        "lmdb": Stage(cpu["lmdb"], jobs, cores * min(jobs, nodes), of_shard, pictures),
        "… its jobs' reading of the tables": Stage(row.seconds * count * jobs, 0, min(jobs, nodes)),
        "mean": Stage(cpu["mean"], shards, min(shards, nodes), read=records),
        "train, on 8 GPUs": Stage(count * EPOCHS / GPU_RATE, 1, 8, read=records * EPOCHS),
    }
    tables = count * (costs["inventory"].disk + costs["scan"].disk)
    dag = sum(s.jobs for s in stages.values()) + 3 * (shards > 1) + 8
    print(
        f"\n### {count:,} pictures\n\n{pictures / 1e12:,.2f} TB of pictures, {records / 1e12:,.1f} TB of raw records, "
        f"{tables / 1e9:,.1f} GB of inventory and manifest; {shards:,} shards, a DAG of {dag:,} jobs for one run.\n"
    )
    print("| Stage | core hours | jobs | hours | GB/s | memory of one job, GB | |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for name, stage in stages.items():
        hours = stage.seconds / 3600 / stage.width
        verdict = "over a week" if hours > WEEK else ""
        if stage.memory > MEMORY:
            verdict = "doesn't fit a node"
        print(
            f"| {name} | {stage.seconds / 3600:,.1f} | {stage.jobs or ''} | {hours:,.1f} | "
            f"{stage.read / hours / 3.6e12:,.2f} | {stage.memory / 1e9:,.1f} | {verdict} |"
        )


def spent(function: Callable[..., Any], *args: Any) -> tuple[float, float]:
    """CPU seconds and bytes of memory that a call takes in a process of its own, beyond its start."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(functools.partial(_spent, function), args)


def _spent(function: Callable[..., Any], *args: Any) -> tuple[float, float]:
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # its peak counts from here
    begun, small = _cpu(), _peak()
    kept = function(*args)
    seconds, large = _cpu() - begun, _peak()
    del kept
    return seconds, float(large - small)


def _peak() -> int:
    """The most memory, in bytes, that this process had since it was last reset."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith("VmHWM:"))


def _cpu() -> float:
    """Of this process and of those it waited for."""
    both = map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(used.ru_utime + used.ru_stime for used in both)


def write_pictures(folder: Path, count: int) -> None:
    """Smooth noise, which compresses like a photograph, in two classes."""
    rng = np.random.default_rng(0)
    for i in range(count):
        low = rng.integers(0, 255, (48, 64, 3), dtype=np.uint8)
        image = cv2.resize(low, (500, 375), interpolation=cv2.INTER_CUBIC).astype(np.int16)
        image += rng.integers(-12, 13, image.shape, dtype=np.int16)
        path = folder / "ab"[i % 2] / f"{i:06d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), image.clip(0, 255).astype(np.uint8), [cv2.IMWRITE_JPEG_QUALITY, 90])


def write_names(folder: Path, count: int) -> None:
    """Empty files in folders of a thousand, in two classes."""
    for i in range(count):
        path = folder / "ab"[i % 2] / f"{i // 2000:06d}" / f"{i:08d}.jpg"
        if i % 2000 < 2:
            path.parent.mkdir(parents=True)
        path.touch()


def repeat(manifest: Path, out: Path, count: int) -> None:
    """A manifest of so many rows, each of a picture of its own, and the list of them all beside it."""
    rng = np.random.default_rng(1)
    rows = scan.read_manifest(manifest)
    names = [f"{i}_{rows[i % len(rows)]['path']}" for i in range(count)]
    out.with_suffix(".txt").write_text("".join(f"{name} 0\n" for name in names), encoding="utf-8")
    with out.open("w", encoding="utf-8", newline="") as f:
        table = csv.DictWriter(f, scan.MANIFEST, lineterminator="\n")
        table.writeheader()
        for i, path in enumerate(names):
            row = dict(rows[i % len(rows)])
            for name in ("sha256", "pixels", "phash", "thumb"):
                row[name] = rng.bytes(math.ceil(len(row[name]) / 2)).hex()[: len(row[name])]
            table.writerow({**row, "path": path})


def entries_of(
    list_file: Path, root: str, manifest: Path, shard: tuple[int, int] = (0, 1)
) -> Entries:
    """What an LMDB job holds of each of its records."""
    return read_list(list_file, 0, shard).with_digests(root, scan.contents(manifest))


if __name__ == "__main__":
    main()
