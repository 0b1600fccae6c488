"""The whole workflow: beside the same recipe by hand with Caffe's tools, and where it has nothing to do."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import yaml
from google.protobuf import text_format

from bench import inputs
from bench.measure import Row, Way, beside, python, said, seconds
from recaffe.proto import caffe_pb2 as pb

ROOT = Path(__file__).parents[1]
# Kilobytes. From a process of its own, for what is started counts the memory of its starter as its own.
_PEAK = """
import resource, subprocess, sys
subprocess.run(sys.argv[1:], check=True)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
"""
SPLITS = ("train", "val", "test")
NET, EPOCHS = "squeezenet_v1.1", 4


class Recipe:
    """Pictures, the workflow over them, and the same by hand."""

    def __init__(self, work: Path, caffe: Path, count: int) -> None:
        self.work, self.caffe = work / "whole", caffe
        self.pictures = inputs.pictures(self.work / "pictures", count, inputs.SMALL)
        self.config = self.work / "config.yaml"
        config = {
            "dataset": "bench",
            "images": str(self.pictures),
            "train": {"net": NET, "engine": "torch", "batch_size": 16, "select": "last"},
            "runs": {"scratch": {"weights": "none", "epochs": EPOCHS}},
        }
        self.config.write_text(yaml.safe_dump(config))
        self.results = self.work / "results" / "bench"

    def workflow(self) -> float:
        """Seconds of the workflow, from pictures to report."""
        for name in ("results", ".snakemake"):
            shutil.rmtree(self.work / name, ignore_errors=True)
        return seconds(snakemake(self.config), cwd=self.work)

    def by_hand(self) -> float:
        """Seconds of Caffe's tools on the lists and nets that the workflow wrote, one after the other."""
        hand = self.work / "by_hand"
        shutil.rmtree(hand, ignore_errors=True)
        hand.mkdir()
        data, run, tools = self.results / "data", self.results / "scratch", self.caffe / "bin"
        spent = 0.0
        for split in SPLITS:
            sides = ["--resize_width=256", "--resize_height=256", "--shuffle"]
            out = hand / f"{split}_lmdb"
            spent += seconds(
                [
                    tools / "convert_imageset",
                    *sides,
                    f"{self.pictures}/",
                    data / f"{split}.txt",
                    out,
                ]
            )
        mean = hand / "mean.binaryproto"
        spent += seconds([tools / "compute_image_mean", hand / "train_lmdb", mean])
        net = text_format.Parse((run / "train_val.prototxt").read_text(), pb.NetParameter())
        for layer in net.layer:
            if layer.type == "Data":
                layer.data_param.source = str(hand / Path(layer.data_param.source).name)
        (hand / "net.prototxt").write_text(text_format.MessageToString(net))
        for layer in net.layer:
            if layer.type == "Data":
                layer.data_param.source = str(hand / "test_lmdb")
        (hand / "test.prototxt").write_text(text_format.MessageToString(net))
        solver = text_format.Parse((run / "solver.prototxt").read_text(), pb.SolverParameter())
        solver.net, solver.snapshot_prefix = str(hand / "net.prototxt"), str(hand / "snap")
        (hand / "solver.prototxt").write_text(text_format.MessageToString(solver))
        threads = {"OPENBLAS_NUM_THREADS": str(len(os.sched_getaffinity(0)))}
        spent += seconds(
            [tools / "caffe", "train", f"--solver={hand / 'solver.prototxt'}"], threads
        )
        weights = hand / f"snap_iter_{solver.max_iter}.caffemodel"
        batch = next(la for la in net.layer if la.type == "Data" and la.include[0].phase == pb.TEST)
        lines = len((data / "test.txt").read_text().splitlines())
        rounds = -(-lines // batch.data_param.batch_size)
        flags = [
            f"--model={hand / 'test.prototxt'}",
            f"--weights={weights}",
            f"--iterations={rounds}",
        ]
        return spent + seconds([tools / "caffe", "test", *flags], threads)


def snakemake(config: Path, *more: str) -> list[str | Path]:
    """The workflow's command."""
    program = Path(sys.executable).with_name("snakemake")
    cores = str(len(os.sched_getaffinity(0)))
    flags: list[str | Path] = ["--snakefile", ROOT / "Snakefile", "--cores", cores]
    return [program, *flags, "--quiet", "all", "--configfile", config, *more]


def rows(work: Path, caffe: Path, runs: int, quick: bool) -> Iterator[Row]:
    """End to end, then a dry run over many pictures of which none changed."""
    recipe = Recipe(work, caffe, 100 if quick else 1000)
    # Without a run that doesn't count: each takes minutes.
    pairs = [(recipe.workflow(), recipe.by_hand()) for _ in range(runs)]
    stage = f"pictures to report, {len(list(recipe.pictures.rglob('*.jpg'))):,}, {EPOCHS} epochs"
    checked = "same lists, net, solver; both test all pictures"
    ours, theirs = (list(seconds) for seconds in zip(*pairs, strict=True))
    yield Row(stage, "Caffe's tools by hand", ours, theirs, 2.0, checked)
    count = 1000 if quick else 100_000
    few, many = Unchanged(work / "few", count // 100), Unchanged(work / "many", count)
    find = Way("find -size +1G", many.find)
    row = beside(
        f"nothing changed, {count:,} pictures, -n", Way("", many.plan), find, runs, None, ""
    )
    row.checked = (
        f"nothing to be done; {many.peak():.0f} MB, of {count // 100:,} pictures {few.peak():.0f}"
    )
    yield row


class Unchanged:
    """Results of tiny pictures of which none has changed."""

    def __init__(self, work: Path, count: int) -> None:
        self.work, self.config = work, work / "config.yaml"
        rng = np.random.default_rng(0)
        for i in range(count):
            path = work / "pictures" / "ab"[i % 2] / f"{i // 1000:03d}" / f"{i:06d}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(path), rng.integers(0, 256, (8, 8, 3), dtype=np.uint8))
        settings = {
            "dataset": "bench",
            "images": str(work / "pictures"),
            "lmdb": {"width": 28, "height": 28, "gray": True},
            "scan": {"near_duplicates": -1},
            "train": {"net": "lenet", "engine": "torch", "crop_size": 28},
            "runs": {"a": {"weights": "none", "max_iter": 10}},
        }
        self.config.write_text(yaml.safe_dump(settings))
        said(snakemake(self.config), cwd=work)
        plan = said(snakemake(self.config, "-n"), cwd=work)
        assert "Nothing to be done" in plan, plan

    def plan(self) -> float:
        """Seconds of a dry run."""
        return seconds(snakemake(self.config, "-n"), cwd=self.work)

    def find(self) -> float:
        """Seconds of a walk that stats each picture."""
        return seconds(["find", self.work / "pictures", "-size", "+1G"])

    def peak(self) -> float:
        """The most memory that a dry run holds, in MB."""
        plan = python(_PEAK, *snakemake(self.config, "-n"))
        return int(said(plan, cwd=self.work).split()[-1]) / 1000
