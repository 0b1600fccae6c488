"""Follows a training's log and hands its events to the trackers of its run."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

from recaffe.engines.base import Event, TrainJob
from recaffe.errors import Interrupted, MachineError
from recaffe.progress import line
from recaffe.track.log import Log, Start

_SECONDS_BETWEEN_LOOKS = 1.0
# Seconds that a tracker has, at the end, for what it hasn't sent yet.
_PATIENCE = 120.0
# What each is called as a module.
_MODULES = {"tensorboard": "tensorboard", "mlflow": "mlflow"}
_ARTIFACTS = (
    "train_val.prototxt", "solver.prototxt", "deploy.prototxt", "net.json", "final.caffemodel",
    "train.csv", "train.log", "train.json",
)  # fmt: skip


class Tracker(Protocol):
    """What events are handed to; each call may raise anything."""

    name: str

    def see(self, event: Event | Start, when: float) -> None:
        """An event of that moment."""

    def flush(self) -> None:
        """No more of them just now."""

    def close(self, status: str) -> None:
        """FINISHED, FAILED or KILLED."""


def needed(runs: Mapping[str, Mapping[str, Any]]) -> None:
    """Raises `MachineError` where a run wants a tracker that isn't installed."""
    for name, run in runs.items():
        for tracker in run["trackers"]:
            if find_spec(_MODULES[tracker]) is None:
                raise MachineError(
                    f"runs.{name}.trackers has {tracker}, which isn't installed: pip install -c "
                    "constraints.txt -e '.[track]' in the clone, or take it out."
                )


@contextmanager
def following(
    job: TrainJob, run_name: str, config: Mapping[str, Any], folder: Path
) -> Iterator[None]:
    """Follow a workflow's job, of that run of that config, whose results go to `folder`.

    A tracker that fails on the way is given up with a line; the training goes on. Raises
    `MachineError` for one that can't begin.
    """
    run = config["runs"][run_name]
    if not run["trackers"] or job.log is None or job.snapshots is None:
        yield
        return
    needed({run_name: run})
    job.snapshots.mkdir(parents=True, exist_ok=True)
    trackers = list(_trackers(job, run_name, config, folder))
    log = Log(job.log, run["batch_size"] * run["iter_size"])
    follower = _Follower(log, trackers)
    follower.start()
    try:
        yield
    except (Interrupted, KeyboardInterrupt):
        follower.end("KILLED")
        raise
    except BaseException:
        follower.end("FAILED")
        raise
    follower.end("FINISHED")


def _trackers(
    job: TrainJob, run_name: str, config: Mapping[str, Any], folder: Path
) -> Iterator[Tracker]:
    run = config["runs"][run_name]
    if "tensorboard" in run["trackers"]:
        from recaffe.track.tensorboard import TensorBoard

        texts = {"solver.prototxt": job.solver.read_text(encoding="utf-8")}
        yield TensorBoard(folder / "tensorboard", run, texts)
    if "mlflow" in run["trackers"]:
        from recaffe.track.mlflow import MLflow

        assert job.snapshots is not None, "following"
        local = Path(config["results"], "mlruns").absolute().as_uri()
        uri = run["mlflow_uri"] or os.environ.get("MLFLOW_TRACKING_URI") or local
        experiment = os.environ.get("MLFLOW_EXPERIMENT_NAME") or config["dataset"]
        # The fold of a cross validation is in the title.
        name = job.title.removeprefix("train ")
        yield MLflow(
            uri, experiment, name, run, job.snapshots / "mlflow.json",
            [folder / name for name in _ARTIFACTS],
        )  # fmt: skip


class _Follower(threading.Thread):
    def __init__(self, log: Log, trackers: Iterable[Tracker]) -> None:
        super().__init__(name="recaffe-track", daemon=True)
        self._log, self._trackers = log, list(trackers)
        self._over, self._status = threading.Event(), ""

    def run(self) -> None:
        while not self._over.wait(_SECONDS_BETWEEN_LOOKS):
            self._pass_on(self._log.read())
        self._pass_on(self._log.finish())
        for tracker in list(self._trackers):
            self._ask(tracker, lambda tracker=tracker: tracker.close(self._status))

    def end(self, status: str) -> None:
        """Read to the log's end, and tell the trackers how it came."""
        self._status = status
        self._over.set()
        self.join(_PATIENCE)
        if self.is_alive():
            names = " and ".join(tracker.name for tracker in self._trackers)
            line(f"{names} took too long for the last of this training; it is left out there.")

    def _pass_on(self, events: Iterator[tuple[float, Event | Start]]) -> None:
        try:
            for when, event in events:
                for tracker in list(self._trackers):
                    self._ask(tracker, lambda t=tracker, e=event, w=when: t.see(e, w))
        except Exception as error:  # a log that can't be read just now
            line(f"The training's log can't be followed just now: {error}")
        for tracker in list(self._trackers):
            self._ask(tracker, tracker.flush)

    def _ask(self, tracker: Tracker, what: Any) -> None:
        try:
            what()
        except Exception as error:
            self._trackers.remove(tracker)
            said = (str(error).splitlines() or [type(error).__name__])[0]
            line(f"{tracker.name} is given up for the rest of this training, which goes on: {said}")
