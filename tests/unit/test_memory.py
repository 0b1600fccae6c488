"""Memory: how much is free, and what is said where it runs out."""

import resource
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from recaffe import free_memory
from recaffe.cli import main
from recaffe.engines.base import PredictJob, TrainJob
from recaffe.engines.torch.layers import FORWARD, Context
from recaffe.engines.torch.predict import predict
from recaffe.engines.torch.train import train
from recaffe.errors import TrainError
from recaffe.net import weights
from tests.training import write_training

V2 = "31 1 0:27 / {root} rw shared:4 - cgroup2 cgroup2 rw,nsdelegate"
V1 = "32 1 0:31 / {root} rw - cgroup cgroup rw,memory\n33 1 0:32 / /other rw - cgroup cgroup rw,cpu"
FILES = {
    "v2": ("memory.max", "memory.current", "active_file 10\ninactive_file 20\nanon 5\n"),
    "v1": (
        "memory.limit_in_bytes", "memory.usage_in_bytes",
        "active_file 7\ntotal_active_file 10\ntotal_inactive_file 20\n",
    ),
}  # fmt: skip
UNLIMITED = {"v2": "max", "v1": "9223372036854771712"}


def process(tmp_path: Path, version: str, group: str, root: str = "/") -> Path:
    """A process in this group of a hierarchy that is mounted in tmp_path/cg."""
    proc = tmp_path / "proc"
    proc.mkdir()
    mount = (V2 if version == "v2" else V1).format(root=tmp_path / "cg")
    (proc / "mountinfo").write_text(mount.replace(" / ", f" {root} ", 1) + "\n")
    own = f"0::{group}" if version == "v2" else f"5:cpu:/x\n4:memory:{group}\n0::/"
    (proc / "cgroup").write_text(f"9:name=systemd:/\n{own}\n")
    return proc


def limit(folder: Path, version: str, limit: str, used: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in zip(
        (*FILES[version][:2], "memory.stat"), (limit, f"{used}\n", FILES[version][2]), strict=True
    ):
        (folder / name).write_text(text)


@pytest.mark.parametrize("version", ["v2", "v1"])
def test_a_groups_limit_counts_whichever_group_above_the_process_has_it(
    tmp_path: Path, version: str
) -> None:
    proc = process(tmp_path, version, "/slurm/job_7/step_0")
    limit(tmp_path / "cg/slurm", version, UNLIMITED[version], 900)
    limit(tmp_path / "cg/slurm/job_7", version, "1000\n", 400)
    limit(tmp_path / "cg/slurm/job_7/step_0", version, UNLIMITED[version], 300)
    limit(tmp_path / "cg/slurm/job_8", version, "1\n", 0)
    # What the page cache holds can be had.
    assert min(free_memory._of_cgroups(proc)) == 1000 - 400 + 30


@pytest.mark.parametrize("version", ["v2", "v1"])
@pytest.mark.parametrize(
    ("group", "root"),
    [("/docker/abc", "/docker/abc"), ("/", "/"), ("/docker/abc", "/else"), ("/../x", "/")],
)
def test_in_a_container_the_limit_stands_where_the_groups_are_mounted(
    tmp_path: Path, version: str, group: str, root: str
) -> None:
    proc = process(tmp_path, version, group, root)
    limit(tmp_path / "cg", version, "5000\n", 100)
    assert free_memory._of_cgroups(proc) == [5000 - 100 + 30]


@pytest.mark.parametrize("text", ["", "max\n", "nonsense\n"])
def test_groups_without_a_limit_say_nothing(tmp_path: Path, text: str) -> None:
    proc = process(tmp_path, "v2", "/a")
    assert free_memory._of_cgroups(proc) == []
    limit(tmp_path / "cg/a", "v2", text, 100)
    assert free_memory._of_cgroups(proc) == []
    assert free_memory._of_cgroups(tmp_path / "none") == []


def test_the_machines_free_memory_bounds_it() -> None:
    soft, _ = resource.getrlimit(resource.RLIMIT_AS)
    assert soft == resource.RLIM_INFINITY
    assert 2**20 < free_memory.free_memory() <= free_memory._of_machine() + 2**30


# -- what is said where it runs out

Command = Callable[[Path], object]


def in_a_test(folder: Path) -> object:
    return train(TrainJob(write_training(folder, test_interval=1), device="cpu"))


def weights_of(folder: Path) -> Path:
    solver = write_training(folder, max_iter=1, test_interval=100)
    train(TrainJob(solver, device="cpu", final=folder / "w"))
    return folder / "w"


def command(words: str) -> Command:
    def run(folder: Path) -> object:
        return main(words.format(net=folder / "net.prototxt", w=folder / "w").split())

    return run


def predicting(folder: Path) -> object:
    deploy = folder / "deploy.prototxt"
    deploy.write_text(
        'layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 1 dim: 3 dim: 10 dim: 10 } } } '
        'layer { name: "far" type: "InnerProduct" bottom: "data" top: "far" inner_product_param { num_output: 3 } }'
    )  # fmt: skip
    blobs = [np.zeros((3, 300), np.float32), np.zeros(3, np.float32)]
    weights.write(weights.to_net("", [("far", "InnerProduct", blobs)]), folder / "w")
    return predict(PredictJob(deploy, folder / "w", folder / "val", crop_size=10, batch_size=8))


IN_TEST = "batch_size of the data layer in TEST (test_batch_size) to 1"
PLACES: dict[str, tuple[Command, int, str]] = {
    "a test in training": (in_a_test, 5, f"Set {IN_TEST}."),
    "predict": (predicting, 8, "Set test_batch_size to 4."),
    "recaffe test": (command("test --model {net} --weights {w} --iterations 1"), 5, "data layer to 1."),
    "recaffe test --all": (command("test --model {net} --weights {w} --all"), 5, "data layer to 1."),
    "recaffe time": (command("time --model {net} --iterations 1"), 8, "data layer to 4."),
}  # fmt: skip


@pytest.mark.parametrize("place", PLACES)
def test_running_out_of_memory_is_explained_wherever_a_net_runs(
    place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    weights_of(tmp_path)
    run, pictures, advice = PLACES[place]
    inner = FORWARD["InnerProduct"]

    def full(layer: Any, x: list[torch.Tensor], w: Any, context: Context) -> list[torch.Tensor]:
        if context.training and place != "recaffe time":
            return inner(layer, x, w, context)
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9")

    monkeypatch.setitem(FORWARD, "InnerProduct", full)
    capsys.readouterr()
    try:
        assert run(tmp_path) == 1
        said = capsys.readouterr().err
        assert "Traceback" not in said
    except TrainError as error:
        said = str(error)
    assert f"Out of memory: {pictures} pictures at once need about " in said
    assert said.strip().endswith(advice), said
