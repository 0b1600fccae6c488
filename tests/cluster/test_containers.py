"""Jobs that run in recaffe's image, on the nodes."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from recaffe.config import ROOT
from tests.cluster.slurm import Cluster
from tests.cluster.started import on_cluster
from tests.workflow.faults.small import Small

LOGS = (
    "logs/scan.log", "logs/split.log", "logs/lmdb_train.log", "logs/mean.log", "first/logs/patch.log",
    "first/logs/train.log", "first/logs/predict.log", "first/logs/linear.log", "logs/report.log",
)  # fmt: skip


def test_jobs_run_in_the_image_on_every_node(
    cluster: Cluster, begun: Small, undisturbed: Small, tmp_path: Path
) -> None:
    image = Path(os.environ.get("RECAFFE_SIF", ROOT / "docker" / "recaffe-cpu.sif")).absolute()
    if shutil.which("apptainer") is None or not image.is_file():
        pytest.skip(
            f"NO APPTAINER, OR NO {image}: no job was run in the image. `make images` builds it"
        )
    small = begun.without_results(tmp_path / "small")
    with on_cluster(
        small, cluster, "--config", f"container={image}",
        software_deployment_method=["apptainer"], apptainer_args="--nv",
    ) as run:  # fmt: skip
        run.end()
    for name in LOGS:
        first = (small.results / name).read_text(encoding="utf-8").partition("\n")[0]
        assert first.startswith("In the image recaffe:cpu"), (name, first)
    assert small.artifacts() == undisturbed.artifacts()
