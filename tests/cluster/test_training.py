"""A training whose job is cancelled, runs out of memory, or loses sight of the controller."""

from __future__ import annotations

from tests.cluster.slurm import Cluster
from tests.cluster.started import ONLY, on_cluster, resumed, trained
from tests.workflow.faults.small import Small


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
