"""The engine that a job names: what trains and tests it. Each is imported only when it is used."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from recaffe.engines.base import Predictions, PredictJob, TrainJob, TrainResult
from recaffe.errors import ConfigError, MachineError
from recaffe.script import tell


def train(job: TrainJob) -> TrainResult:
    """Train with the job's engine; see `torch.launch.run` and `caffe.train.train`.

    Raises `ConfigError` for an engine that there isn't.
    """
    if job.engine == "caffe":
        from recaffe.engines.caffe.train import train as with_caffe

        return with_caffe(job)
    _check(job.engine)
    from recaffe.engines.torch.launch import run

    return run(job)


def train_where(job: TrainJob, run: dict[str, Any], resources: Any, cpus: int) -> TrainResult:
    """`train` where the run's `runtime` says: here, or in a container of so many CPUs and of the
    memory (`mem_mb`) among a rule's resources."""
    if run["runtime"] == "docker":
        from recaffe.engines import container

        return container.train(job, run, resources.mem_mb, cpus)
    return train(job)


def predict(job: PredictJob, title: str = "test", blob: str = "") -> Predictions:
    """The net's output (or the named blob, averaged over space) for every record of an LMDB.

    Raises `ConfigError` for an engine that there isn't.
    """
    if job.engine == "caffe":
        from recaffe.engines.caffe.predict import predict as with_caffe

        return with_caffe(job, title, blob)
    _check(job.engine)
    from recaffe.engines.torch.predict import predict as with_torch

    return with_torch(job, blob, title)


def on_host(job: PredictJob, runtime: str) -> PredictJob:
    """The job as this machine can do it: where only the training's container has Caffe (`runtime` is
    docker), the built-in engine scores, which gives the same to about 1e-5, and says so."""
    if job.engine != "caffe" or runtime != "docker":
        return job
    from recaffe.engines.caffe import find

    try:
        find.find()
    except MachineError:
        tell(
            "There is no Caffe on this machine (runtime: docker trains with that of its image), so the "
            "built-in engine scores."
        )
        return replace(job, engine="torch")
    return job


def _check(engine: str) -> None:
    if engine != "torch":
        raise ConfigError(f"engine is {engine!r}; it can be torch or caffe.")
