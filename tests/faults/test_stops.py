"""Ctrl-C during each long stage ends within seconds, with one message and no traceback."""

from __future__ import annotations

import signal
import time
from pathlib import Path

from tests.faults.started import PATIENCE, forget, started
from tests.workflow.faults.small import Small

STAGES = {
    "scan": "logs/scan.log",
    "lmdb": "logs/lmdb_train.log",
    "mean": "logs/mean.log",
    "patch": "first/logs/patch.log",
    "train": "first/logs/train.log",
    "linear": "first/logs/linear.log",
    "predict": "first/logs/predict.log",
    "report": "logs/report.log",
}
ATTEMPTS = 5  # a stage may be over before it is stopped
SECONDS = 60.0  # on an idle machine most take one


def test_ctrl_c_ends_every_stage_within_seconds_and_the_run_goes_on_from_there(
    begun: Small, undisturbed: Small, tmp_path: Path
) -> None:
    small = begun.copy(tmp_path / "copy")
    stopped = []
    for stage, log in STAGES.items():
        for _ in range(ATTEMPTS):
            forget(small, stage)
            (small.results / log).unlink(missing_ok=True)
            with started(small, "--until", stage) as run:
                job = run.wait_for(stage, small.results / log)
                if job is None:
                    continue
                run.send(signal.SIGINT, "all", job)
                began = time.monotonic()
                run.process.wait(PATIENCE)
                assert time.monotonic() - began < SECONDS, stage
            assert "Traceback" not in run.said, (stage, run.said)
            if "recaffe: Stopped" in run.said:
                assert run.said.count("recaffe: ") <= 2, "one message for each job"
                stopped.append(stage)
                break
    assert len(stopped) >= len(STAGES) // 2, stopped
    small.run(cores=2)
    assert small.artifacts() == undisturbed.artifacts()
