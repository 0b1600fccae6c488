"""A training that is longer than its jobs may last. It sleeps for minutes, so pytest has it begin first."""

from __future__ import annotations

from tests.cluster.slurm import Cluster
from tests.cluster.started import ONLY, on_cluster, resumed, trained
from tests.workflow.faults.small import Small


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
