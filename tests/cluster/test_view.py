"""The view of a workflow whose jobs run on a cluster's nodes."""

from __future__ import annotations

import re

from tests.cluster.slurm import Cluster
from tests.cluster.started import LIMIT, ONLY, PAUSE, command
from tests.terminal import Terminal
from tests.workflow.faults.small import Small

TRAINING = re.compile(r"  train first .* \d+ of 110 it  loss ")


def test_a_terminal_shows_how_far_a_training_on_a_node_is(
    cluster: Cluster, untrained: Small
) -> None:
    terminal = Terminal(
        command(untrained, *ONLY), untrained.folder, columns=140,
        **{**cluster.environment, PAUSE: "0.1"},
    )  # fmt: skip
    try:
        terminal.until(lambda screen: TRAINING.search(screen.text) is not None, LIMIT)
        assert terminal.end(LIMIT) == 0
        assert any(
            re.search(r"  train first .* queued", frame) is not None for frame in terminal.frames
        )
        assert re.search(r"✓ train first  \d+:\d\d  loss [0-9.e-]+  val ", terminal.screen.text)
        assert not [*untrained.folder.rglob(".*.status.json*")]
    finally:
        terminal.close()
