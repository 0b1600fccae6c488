"""A training as a run of MLflow's: parameters, metrics by iteration, and at the end its files."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import recaffe
from recaffe.engines.base import Event
from recaffe.errors import MachineError
from recaffe.files import write_json
from recaffe.track.log import Start, numbers_of

if TYPE_CHECKING:
    from mlflow.entities import Metric

# Of an unreachable server a training must hear soon; and nobody else is told of it.
_MANNERS = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    # A folder as a store wants no more than a folder; MLflow asks for this word since it prefers SQL.
    "MLFLOW_ALLOW_FILE_STORE": "true",
}
_FORBIDDEN = re.compile(r"[^\w\-./ ]")
_AT_ONCE = 900  # metrics in one request; MLflow takes a thousand
_LONGEST = 6000  # letters of a parameter


class MLflow:
    """Writes a training to the store at `uri`.

    `note` remembers which run it is, so that a training that goes on doesn't begin another; what that
    run has is not written again. Raises `MachineError` where the store can't be had.
    """

    name = "MLflow"

    def __init__(
        self,
        uri: str,
        experiment: str,
        run_name: str,
        settings: dict[str, Any],
        note: Path,
        artifacts: Sequence[Path],
    ) -> None:
        for key, value in _MANNERS.items():
            os.environ.setdefault(key, value)
        from mlflow.exceptions import MlflowException
        from mlflow.tracking import MlflowClient

        self.uri, self.artifacts = uri, artifacts
        self._waiting: list[Metric] = []
        self._known: set[tuple[str, int]] = set()
        try:
            self._client = MlflowClient(uri)
            self._run = self._found(note) or self._made(experiment, run_name, note)
            self._log_settings(settings)
        except ImportError as error:
            raise MachineError(
                f"MLflow's store {uri} wants more than the client that recaffe installs ({error}). Install "
                "the whole of mlflow, or name a server or a folder by mlflow_uri or MLFLOW_TRACKING_URI."
            ) from error
        except (MlflowException, OSError) as error:
            raise MachineError(
                f"MLflow's store {uri} can't be written to: {str(error).strip().splitlines()[0]}. Name another by "
                "mlflow_uri or MLFLOW_TRACKING_URI, or take mlflow out of `trackers`."
            ) from error

    def see(self, event: Event | Start, when: float) -> None:
        """Take note of an event's numbers, unless they are known."""
        from mlflow.entities import Metric

        if isinstance(event, Start):
            return
        for name, value in numbers_of(event).items():
            key = _FORBIDDEN.sub("_", name)
            if (key, event.iteration) not in self._known:
                self._known.add((key, event.iteration))
                self._waiting.append(Metric(key, value, int(when * 1000), event.iteration))

    def flush(self) -> None:
        """Send what was noted."""
        while self._waiting:
            self._client.log_batch(self._run, metrics=self._waiting[:_AT_ONCE])
            del self._waiting[:_AT_ONCE]

    def close(self, status: str) -> None:
        """The end: FINISHED, with the files; FAILED; or KILLED, to go on later."""
        self.flush()
        if status == "FINISHED":
            for path in self.artifacts:
                if path.is_file():
                    self._client.log_artifact(self._run, str(path))
        self._client.set_terminated(self._run, status)

    def _found(self, note: Path) -> str | None:
        """The run that an earlier attempt began here, if it is still there."""
        from mlflow.exceptions import MlflowException

        try:
            noted = json.loads(note.read_text(encoding="utf-8"))
            if noted["uri"] != self.uri:
                return None
            run = self._client.get_run(noted["run_id"])
        except (OSError, ValueError, KeyError, TypeError, MlflowException):
            return None
        if run.info.lifecycle_stage != "active":
            return None
        run_id: str = run.info.run_id
        for name in run.data.metrics:
            history = self._client.get_metric_history(run_id, name)
            self._known |= {(name, metric.step) for metric in history}
        self._client.update_run(run_id, status="RUNNING")
        return run_id

    def _made(self, experiment: str, run_name: str, note: Path) -> str:
        run = self._client.create_run(
            self._experiment(experiment), run_name=run_name, tags={"recaffe": recaffe.__version__}
        )
        run_id: str = run.info.run_id
        write_json(note, {"uri": self.uri, "run_id": run_id})
        return run_id

    def _experiment(self, name: str) -> str:
        from mlflow.exceptions import MlflowException

        found = self._client.get_experiment_by_name(name)
        if found is None:
            with suppress(MlflowException):  # another run of the same workflow was faster
                made: str = self._client.create_experiment(name)
                return made
            found = self._client.get_experiment_by_name(name)
        if found is None:
            raise MachineError(f"MLflow's store {self.uri} makes no experiment {name!r}.")
        there: str = found.experiment_id
        return there

    def _log_settings(self, settings: dict[str, Any]) -> None:
        """Those that the run hasn't yet: MLflow lets none be changed."""
        from mlflow.entities import Param

        known = self._client.get_run(self._run).data.params
        params = [
            Param(key, (value if isinstance(value, str) else json.dumps(value))[:_LONGEST])
            for key, value in settings.items()
            if key not in known
        ]
        self._client.log_batch(self._run, params=params)
