"""One training on two nodes."""

from __future__ import annotations

from tests.cluster.slurm import Cluster
from tests.cluster.started import on_cluster
from tests.faults.started import forget
from tests.workflow.faults.small import Small


def test_two_nodes_train_together_stop_together_and_go_on(
    cluster: Cluster, untrained: Small, undisturbed: Small
) -> None:
    alone = undisturbed.copy(untrained.folder.with_name("alone"))
    forget(alone, "train")
    alone.change(train={"devices": 2})
    alone.run("--until", "train")
    untrained.change(train={"nodes": 2})
    with on_cluster(untrained, cluster, "--until", "train", pause=0.1) as run:
        first = run.wait_until_training()
        # As SLURM does before a job's time is over: to what runs on the nodes, not to the job's shell.
        cluster.ask("scancel", "--signal=TERM", first)
        run.end()
    jobs = run.submitted("train")
    assert len(jobs) == 2, run.said
    about = cluster.show(first)
    assert (about["NumNodes"], about["TresPerNode"]) == ("2", "gres:gpu:1"), about
    log = (untrained.results / "first" / "train.log").read_text(encoding="utf-8")
    assert log.count("2 processes, ") == 2 and log.count("Restoring previous solver status") == 1
    made = [small.artifacts() for small in (untrained, alone)]
    for name in ("first/final.caffemodel", "first/train.csv"):
        assert made[0][name] == made[1][name], name
