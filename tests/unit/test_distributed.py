"""Several real processes that train together end as one process does, and never hang."""

from __future__ import annotations

import json
import multiprocessing
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from multiprocessing.process import BaseProcess
from pathlib import Path

import numpy as np
import pytest

from recaffe.config import ROOT
from recaffe.engines import jobfile
from recaffe.engines.base import TrainJob
from recaffe.engines.torch import launch, worker
from recaffe.engines.torch.train import train
from recaffe.errors import ConfigError, Interrupted
from recaffe.net import weights
from tests.training import BATCH_NORM, IGNORE, write_training

WORLD = 2


def work(environment: dict[str, str], job: str) -> None:
    """What torchrun has each process do."""
    os.environ.update(environment)
    raise SystemExit(worker.main([job]))


@pytest.fixture(scope="module")
def starter() -> Iterator[multiprocessing.context.ForkServerContext]:
    """Starts processes in which PyTorch is imported already."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["torch._dynamo", "tests.unit.test_distributed"])
    yield context


def start(
    context: multiprocessing.context.ForkServerContext, job: TrainJob, folder: Path
) -> list[BaseProcess]:
    (folder / "job.json").write_text(jobfile.to_json(job))
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    common = {
        "WORLD_SIZE": str(WORLD), "LOCAL_WORLD_SIZE": str(WORLD), "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port), launch.REPORTS: str(folder), "OMP_NUM_THREADS": "1",
    }  # fmt: skip
    out = []
    for rank in range(WORLD):
        own = {**common, "RANK": str(rank), "LOCAL_RANK": str(rank)}
        process = context.Process(target=work, args=(own, str(folder / "job.json")))
        process.start()
        out.append(process)
    return out


def ended(processes: list[BaseProcess], within: float = 30) -> list[int | None]:
    for process in processes:
        process.join(within)
    try:
        return [p.exitcode for p in processes]
    finally:
        for process in processes:
            process.kill()


def job_in(folder: Path, name: str, **changes: object) -> TrainJob:
    job = TrainJob(
        folder / "solver.prototxt", folder / name, final=folder / f"{name}.caffemodel",
        log=folder / f"{name}.log", csv=folder / f"{name}.csv", device="cpu",
    )  # fmt: skip
    return replace(job, **changes)  # type: ignore[arg-type]


def difference(one: Path, two: Path) -> float:
    """The largest difference of any blob, relative to its largest value."""
    a, b = weights.read(one), weights.read(two)
    return max(
        float(np.abs(x - y).max() / np.abs(x).max())
        for name in a
        for x, y in zip(a[name], b[name], strict=True)
    )


def table(job: TrainJob) -> np.ndarray:
    """train.csv without the columns of time; nan for what is empty."""
    assert job.csv is not None
    rows = [line.split(",") for line in job.csv.read_text().splitlines()[1:]]
    keep = [[v for i, v in enumerate(r) if i not in (2, 5)] for r in rows]
    return np.array([[float(v or "nan") for v in r] for r in keep])


@pytest.mark.parametrize(
    ("loss", "more", "micro_batch"),
    [
        ("", {}, 0),
        (IGNORE, {"iter_size": 2, "clip_gradients": 0.5}, 2),
        ("loss_param { normalization: NONE }", {"base_lr": 0.005, "type": '"Adam"', "momentum2": 0.9}, 0),
    ],
)  # fmt: skip
def test_two_processes_end_as_one_does(
    starter: multiprocessing.context.ForkServerContext,
    tmp_path: Path,
    loss: str,
    more: dict[str, str | float],
    micro_batch: int,
) -> None:
    write_training(tmp_path, loss=loss, **more)
    alone = job_in(tmp_path, "alone")
    train(alone)
    both = job_in(tmp_path, "both", micro_batch=micro_batch)
    assert ended(start(starter, both, tmp_path)) == [0, 0]
    assert alone.final is not None
    assert both.final is not None
    assert difference(alone.final, both.final) < 1e-5
    assert np.allclose(table(alone), table(both), rtol=1e-4, atol=1e-6, equal_nan=True)
    assert {p.name for p in both.snapshots.iterdir()} == {  # type: ignore[union-attr]
        p.name
        for p in alone.snapshots.iterdir()  # type: ignore[union-attr]
    }


def test_statistics_of_batch_norm_are_the_processes_mean(
    starter: multiprocessing.context.ForkServerContext, tmp_path: Path
) -> None:
    write_training(tmp_path, middle=BATCH_NORM, drop=0.0, max_iter=1, test_interval=100)
    alone, both = job_in(tmp_path, "alone"), job_in(tmp_path, "both")
    train(alone)
    assert ended(start(starter, both, tmp_path)) == [0, 0]
    one, two = (weights.read(j.final)["bn"] for j in (alone, both) if j.final is not None)
    # The mean over both shares of a batch is the whole batch's; the variance within them is smaller.
    assert np.allclose(one[0], two[0], rtol=1e-5)
    assert (two[1] < one[1] * 1.2).all()
    assert one[2] == two[2] == 1


def test_a_killed_process_ends_the_other_with_a_message(
    starter: multiprocessing.context.ForkServerContext, tmp_path: Path
) -> None:
    write_training(tmp_path, max_iter=10**6, test_interval=10**6)
    job = job_in(tmp_path, "killed")
    processes = start(starter, job, tmp_path)
    until_a_snapshot_of(job)
    processes[1].kill()
    assert ended(processes) == [1, -signal.SIGKILL]
    said = json.loads((tmp_path / "rank0.json").read_text())
    assert said["error"] == "OtherProcessLost"
    assert "Process 0 of 2 stopped, because another one" in said["message"]


def test_a_signal_to_one_process_stops_both_after_one_snapshot(
    starter: multiprocessing.context.ForkServerContext, tmp_path: Path
) -> None:
    write_training(tmp_path, max_iter=10**6, test_interval=10**6)
    job = job_in(tmp_path, "signalled")
    processes = start(starter, job, tmp_path)
    until_a_snapshot_of(job)
    os.kill(processes[1].pid or 0, signal.SIGTERM)
    assert ended(processes) == [130, 130]
    for rank in range(WORLD):
        said = json.loads((tmp_path / f"rank{rank}.json").read_text())
        assert said["error"] == "Interrupted"
    assert job.log is not None
    assert job.log.read_text().rstrip().endswith("Optimization stopped early.")


def test_torchrun_stops_after_one_snapshot_and_one_process_goes_on(tmp_path: Path) -> None:
    write_training(tmp_path, max_iter=10**6, test_interval=10**6)
    job = job_in(tmp_path, "stopped", devices=WORLD)
    stopper = threading.Thread(target=lambda: (until_a_snapshot_of(job), os.kill(os.getpid(), signal.SIGTERM)))  # fmt: skip
    stopper.start()
    with pytest.raises(
        Interrupted, match=r"Stopped at iteration \d+ of 1000000; the state is saved"
    ):
        launch.run(job)
    stopper.join()
    assert job.snapshots is not None
    last = max(int(p.stem.split("_")[-1]) for p in job.snapshots.glob("*.solverstate"))
    write_training(tmp_path, max_iter=last + 8, test_interval=10**6)
    went_on, whole = replace(job, devices=1), job_in(tmp_path, "whole")
    assert train(went_on).iteration == train(whole).iteration == last + 8
    assert went_on.final is not None
    assert whole.final is not None
    assert difference(went_on.final, whole.final) < 1e-3  # rounding grows over hundreds of updates


LAUNCH = """
import sys
from pathlib import Path
from recaffe.engines import jobfile
from recaffe.engines.torch import launch
from recaffe.errors import Interrupted
try:
    launch.run(jobfile.from_json(Path(sys.argv[1]).read_text()))
except Interrupted as error:
    print(error)
except KeyboardInterrupt:
    print("interrupted at once")
"""


def test_signals_mean_to_several_processes_what_they_mean_to_one(tmp_path: Path) -> None:
    """Sent to the whole group, as a terminal does: first to all, then to the launcher alone."""
    write_training(tmp_path, max_iter=10**6, test_interval=10**6, snapshot=0, display=1)
    job = job_in(tmp_path, "meant", devices=WORLD, sigint_effect="none", sighup_effect="snapshot")
    assert job.snapshots is not None and job.log is not None
    (tmp_path / "job.json").write_text(jobfile.to_json(job))
    command = [sys.executable, "-c", LAUNCH, str(tmp_path / "job.json")]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, cwd=ROOT,
        start_new_session=True,
    ) as process:  # fmt: skip
        try:
            until_more(process, shown, job, 0)
            for send in (os.killpg, os.kill):
                states = count_of_states(job)
                send(process.pid, signal.SIGINT)
                until_more(process, shown, job, shown(job) + 3)
                assert count_of_states(job) == states
                send(process.pid, signal.SIGHUP)
                until_more(process, count_of_states, job, states)
                until_more(process, shown, job, shown(job))
            process.send_signal(signal.SIGTERM)
            said, _ = process.communicate(timeout=60)
            assert re.match(r"Stopped at iteration \d+ of 1000000; the state is saved", said)
        finally:
            process.kill()


def count_of_states(job: TrainJob) -> int:
    assert job.snapshots is not None
    return len(list(job.snapshots.glob("*.json")))


def shown(job: TrainJob) -> int:
    """The last iteration that the log shows; -1 before the first."""
    assert job.log is not None
    text = job.log.read_text() if job.log.is_file() else ""
    return max((int(n) for n in re.findall(r"Iteration (\d+) \(", text)), default=-1)


def until_more(
    process: subprocess.Popen[str], count: Callable[[TrainJob], int], job: TrainJob, than: int
) -> None:
    end = time.monotonic() + 120
    while count(job) <= than:
        assert process.poll() is None, "it goes on"
        assert time.monotonic() < end
        time.sleep(0.02)


def test_a_batch_that_devices_do_not_divide_is_refused(tmp_path: Path) -> None:
    write_training(tmp_path)
    with pytest.raises(ConfigError, match="devices is 3, which doesn't divide batch_size 8"):
        launch.run(job_in(tmp_path, "x", devices=3))


def test_nodes_divide_the_batch_and_want_a_slurm_job(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_training(tmp_path)
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    with pytest.raises(ConfigError, match="devices is 1 on each of 3 nodes, which doesn't divide"):
        launch.run(job_in(tmp_path, "x", nodes=3))
    with pytest.raises(ConfigError, match="nodes is 2, but this is no SLURM job"):
        launch.run(job_in(tmp_path, "x", nodes=2))


def test_a_job_survives_its_text(tmp_path: Path) -> None:
    job = job_in(
        tmp_path,
        "x",
        weights=(Path("a"), Path("b")),
        copy=("c",),
        stages=("s",),
        micro_batch="auto",
    )
    assert jobfile.from_json(jobfile.to_json(job)) == job
    assert jobfile.from_json('{"solver": "s"}') == TrainJob(Path("s"))
    with pytest.raises(ConfigError, match="no 'wights'; it has augment, "):
        jobfile.from_json('{"solver": "s", "wights": 1}')


def until_a_snapshot_of(job: TrainJob) -> None:
    assert job.snapshots is not None
    end = time.monotonic() + 30
    while not list(job.snapshots.glob("*.solverstate")) and time.monotonic() < end:
        time.sleep(0.05)
