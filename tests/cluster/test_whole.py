"""The whole workflow on a cluster, undisturbed and with a node that is drained meanwhile."""

from __future__ import annotations

from pathlib import Path

from tests.cluster.slurm import Cluster
from tests.cluster.started import on_cluster
from tests.workflow.faults.small import Small


def test_a_cluster_gives_what_one_machine_gives(
    cluster: Cluster, begun: Small, undisturbed: Small, tmp_path: Path
) -> None:
    small = begun.without_results(tmp_path / "small")
    with on_cluster(small, cluster) as run:
        run.end()
    assert small.artifacts() == undisturbed.artifacts()
    # Nothing else stood in the queue: what takes a second ran here or shared a job.
    assert run.names() == [
        "linear", "pictures_scan_split", "predict", "records_lmdb", "records_lmdb", "records_lmdb_mean", "train",
    ]  # fmt: skip
    (training,) = run.submitted("train")
    about = cluster.show(training)
    assert about["Partition"] == "gpu" and about["TresPerJob"] == "gres:gpu:1", about


def test_a_drained_node_ends_its_job_and_gets_no_other(
    cluster: Cluster, untrained: Small, undisturbed: Small
) -> None:
    with on_cluster(untrained, cluster, pause=0.1) as run:
        training = run.wait_until_training()
        node = cluster.show(training)["NodeList"]
        cluster.ask("scontrol", "update", f"nodename={node}", "state=drain", "reason=test")
        run.end()
        assert cluster.states()[node] == "drained"
        cluster.ask("scontrol", "update", f"nodename={node}", "state=resume")
    assert untrained.artifacts() == undisturbed.artifacts()
    assert run.submitted("train") == [training]
    others = {cluster.show(job)["NodeList"] for job in run.submitted("predict")}
    assert others and node not in others
