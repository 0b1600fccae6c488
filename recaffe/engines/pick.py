"""The engine that a job names: what trains and tests it. Each is imported only when it is used."""

from __future__ import annotations

from recaffe.engines.base import Predictions, PredictJob, TrainJob, TrainResult
from recaffe.errors import ConfigError

ENGINES = ("torch",)


def train(job: TrainJob) -> TrainResult:
    """Train with the job's engine; see `torch.launch.run`.

    Raises `ConfigError` for an engine that there isn't.
    """
    _check(job.engine)
    from recaffe.engines.torch.launch import run

    return run(job)


def predict(job: PredictJob, title: str = "test", blob: str = "") -> Predictions:
    """The net's output (or the named blob, averaged over space) for every record of an LMDB.

    Raises `ConfigError` for an engine that there isn't.
    """
    _check(job.engine)
    from recaffe.engines.torch import predict as torch_engine

    return torch_engine.predict(job, blob, title)


def _check(engine: str) -> None:
    if engine not in ENGINES:
        raise ConfigError(f"engine is {engine!r}; it can be {' or '.join(ENGINES)}.")
