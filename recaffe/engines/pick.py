"""The engine that a job names: what trains and tests it. Each is imported only when it is used."""

from __future__ import annotations

from recaffe.engines.base import Predictions, PredictJob, TrainJob, TrainResult
from recaffe.errors import ConfigError


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


def _check(engine: str) -> None:
    if engine != "torch":
        raise ConfigError(f"engine is {engine!r}; it can be torch or caffe.")
