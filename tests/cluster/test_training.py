"""A training whose job is cancelled, runs out of time or memory, or loses sight of the controller."""

from __future__ import annotations

from typing import Any

from tests.cluster.slurm import Cluster
from tests.cluster.started import on_cluster
from tests.workflow.faults.small import Small

# Only the training, to which all of this happens.
ONLY = ("--until", "train")


def trained(small: Small) -> dict[str, Any]:
    """What a training makes."""
    wanted = ("first/final.caffemodel", "first/train.csv")
    return {name: value for name, value in small.artifacts().items() if name in wanted}


def resumed(small: Small) -> int:
    """How often the training went on from a snapshot."""
    log = (small.results / "first" / "train.log").read_text(encoding="utf-8")
    return log.count("Restoring previous solver status")


def test_a_training_goes_on_in_a_new_job_each_time_its_limit_ends_one(
    cluster: Cluster, untrained: Small, undisturbed: Small
) -> None:
    # More than two jobs of a minute can do, which start late and are told to stop up to half a
    # minute early. A later one has time enough on a machine that takes a minute to start.
    minutes = "1 if attempt < 4 else 9"
    train = {"runtime": minutes, "slurm_extra": "'--signal=TERM@5'"}
    with on_cluster(untrained, cluster, *ONLY, pause=1, set_resources={"train": train}) as run:
        run.end()
    jobs = run.submitted("train")
    assert len(jobs) >= 3
    states = [cluster.show(job)["JobState"] for job in jobs]
    # They ended by themselves with a snapshot: SLURM had no need to kill.
    assert states == ["FAILED"] * (len(jobs) - 1) + ["COMPLETED"]
    assert resumed(untrained) >= 2
    assert trained(untrained) == trained(undisturbed)


def test_a_cancelled_training_comes_back_and_asks_for_more_memory(
    cluster: Cluster, untrained: Small, undisturbed: Small
) -> None:
    with on_cluster(untrained, cluster, *ONLY, pause=0.1) as run:
        first = run.wait_until_training()
        cluster.ask("scancel", first)
        run.end()
    last = run.submitted("train")[-1]
    assert last != first and resumed(untrained) >= 1
    asked = [_megabytes(cluster.show(job)["MinMemoryNode"]) for job in (first, last)]
    assert asked[1] >= 1.4 * asked[0]
    assert trained(untrained) == trained(undisturbed)


def test_a_training_that_runs_out_of_memory_gets_more(
    cluster: Cluster, untrained: Small, undisturbed: Small
) -> None:
    train = {"mem_mb": "150 * attempt ** 3"}
    with on_cluster(untrained, cluster, *ONLY, set_resources={"train": train}) as run:
        run.end()
    jobs = [cluster.show(job) for job in run.submitted("train")]
    assert "memory limit" in run.log(jobs[0]["JobId"])
    assert jobs[0]["JobState"] != "COMPLETED" and jobs[-1]["JobState"] == "COMPLETED"
    assert trained(untrained) == trained(undisturbed)


def test_jobs_outlive_a_restart_of_the_controller(
    cluster: Cluster, untrained: Small, undisturbed: Small
) -> None:
    with on_cluster(untrained, cluster, *ONLY, pause=0.1) as run:
        first = run.wait_until_training()
        cluster.restart_controller()
        run.end()
    assert run.submitted("train") == [first]
    assert trained(untrained) == trained(undisturbed)


def test_ctrl_c_cancels_the_jobs_and_the_same_command_goes_on(
    cluster: Cluster, untrained: Small, undisturbed: Small
) -> None:
    with on_cluster(untrained, cluster, *ONLY, pause=0.1) as run:
        run.wait_until_training()
        run.interrupt()
    with on_cluster(untrained, cluster, *ONLY) as run:
        run.end()
    assert resumed(untrained) == 1
    assert trained(untrained) == trained(undisturbed)


def _megabytes(text: str) -> float:
    """`4240M` or `6.21G`, as SLURM writes it."""
    return float(text[:-1]) * {"M": 1, "G": 1024}[text[-1]]
