"""A training as TensorBoard and MLflow have it, read back by their own readers."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from recaffe import config, track
from recaffe.cli import main
from recaffe.engines.base import Step, Test, TrainJob
from recaffe.engines.torch.train import train
from recaffe.errors import Interrupted, MachineError
from recaffe.track import follow
from recaffe.track.log import Log, Start, moment_of, numbers_of
from tests.training import write_training

CAFFE = Path(__file__).with_name("caffe_train.log")
NAMES = {
    "train/loss", "train/lr", "train/images_per_second", "train_output/loss", "train_output/aux_loss",
    "test/accuracy", "test/loss", "test/aux_loss",
}  # fmt: skip


def client_of(store: str) -> Any:
    """MLflow's own client; imported here, as it takes each worker of the tests a second."""
    from mlflow.tracking import MlflowClient

    return MlflowClient(store)


def events_of(folder: Path) -> Any:
    """TensorBoard's own reader, done with what is in `tensorboard/` there."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder / "tensorboard"), size_guidance={"scalars": 0})
    events.Reload()
    return events


@pytest.fixture(autouse=True)
def _no_other_store(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")


def setting(folder: Path, *trackers: str, **more: Any) -> dict[str, Any]:
    whole = {
        "dataset": "pets", "images": {"path": "pictures"}, "results": str(folder / "results"),
        "train": {"net": "lenet", "weights": "none", "batch_size": 8, "trackers": list(trackers), **more},
        "runs": {"first": {}},
    }  # fmt: skip
    return config.complete(whole)


def job_in(folder: Path, **solver: Any) -> TrainJob:
    key = folder / "snapshots" / "key"
    return TrainJob(
        write_training(folder, **solver), snapshots=key, final=key / "final.caffemodel",
        log=key / "train.log", csv=key / "train.csv", device="cpu", title="train fold2 first",
    )  # fmt: skip


def followed(job: TrainJob, whole: dict[str, Any], folder: Path) -> None:
    with track.following(job, "first", whole, folder):
        train(job)


def read_back(folder: Path) -> dict[str, list[tuple[int, float]]]:
    events = events_of(folder)
    return {
        tag: [(e.step, e.value) for e in events.Scalars(tag)] for tag in events.Tags()["scalars"]
    }


def without_time(found: dict[str, Any]) -> dict[str, Any]:
    return {tag: values for tag, values in found.items() if tag != "train/images_per_second"}


def test_tensorboard_has_every_number_of_the_log_by_iteration(tmp_path: Path) -> None:
    job = job_in(tmp_path, display=2)
    followed(job, setting(tmp_path, "tensorboard"), tmp_path)
    found = read_back(tmp_path)
    assert set(found) == NAMES
    assert [step for step, _ in found["train/loss"]] == [0, 2, 4, 6, 8, 10, 12, 14]
    assert [step for step, _ in found["test/accuracy"]] == [0, 8, 16]
    rows = (job.csv or Path()).read_text(encoding="utf-8").splitlines()[1:]
    losses = [float(cells[3]) for row in rows if (cells := row.split(","))[3]]
    assert [value for _, value in found["train/loss"]] == pytest.approx(losses, rel=1e-5)
    assert all(value > 0 for _, value in found["train/images_per_second"])
    events = events_of(tmp_path)
    assert (
        "max_iter: 16" in events.Tensors("solver.prototxt")[0].tensor_proto.string_val[0].decode()
    )
    assert (
        events.SummaryMetadata("_hparams_/session_start_info").plugin_data.plugin_name == "hparams"
    )


def test_following_changes_no_byte_of_the_result(tmp_path: Path) -> None:
    one, two = job_in(tmp_path / "one"), job_in(tmp_path / "two")
    followed(one, setting(tmp_path, "tensorboard", "mlflow"), tmp_path / "one")
    train(two)
    assert one.final and two.final
    assert one.final.read_bytes() == two.final.read_bytes()


def test_a_training_that_goes_on_has_each_point_once(tmp_path: Path) -> None:
    whole = setting(tmp_path, "tensorboard", "mlflow")
    undisturbed = job_in(tmp_path / "one")
    followed(undisturbed, whole, tmp_path / "one")

    job = job_in(tmp_path / "two", max_iter=8)
    followed(job, whole, tmp_path / "two")
    assert job.log
    # What a kill leaves of iterations after the last snapshot: they come again.
    beyond = [line for line in CAFFE.read_text().splitlines() if "Iteration 12" in line]
    with job.log.open("a", encoding="utf-8") as log:
        log.write("\n".join(line.replace("0.404468", "99") for line in beyond) + "\n")
    job_in(tmp_path / "two")  # the solver's max_iter is 16 again
    followed(job, whole, tmp_path / "two")
    found = read_back(tmp_path / "two")
    assert without_time(found) == without_time(read_back(tmp_path / "one"))
    assert [step for step, _ in found["train/images_per_second"]] == [0, 4, 8, 12]

    store = client_of((tmp_path / "results" / "mlruns").absolute().as_uri())
    assert len(store.search_runs([store.get_experiment_by_name("pets").experiment_id])) == 2
    noted = json.loads((job.snapshots / "mlflow.json").read_text())  # type: ignore[operator]
    history = store.get_metric_history(noted["run_id"], "test/accuracy")
    assert [metric.step for metric in history] == [0, 8, 16]


def test_mlflow_has_settings_numbers_and_files(tmp_path: Path) -> None:
    store = f"file://{tmp_path}/elsewhere"
    whole = setting(tmp_path, "mlflow", mlflow_uri=store)
    job = job_in(tmp_path)
    (tmp_path / "train.csv").write_text("a table", encoding="utf-8")
    followed(job, whole, tmp_path)
    client = client_of(store)
    (run,) = client.search_runs([client.get_experiment_by_name("pets").experiment_id])
    assert run.info.run_name == "fold2 first"
    assert run.info.status == "FINISHED"
    assert run.data.params["base_lr"] == str(whole["runs"]["first"]["base_lr"])
    assert run.data.params["trackers"] == '["mlflow"]'
    assert set(run.data.metrics) == NAMES
    assert run.data.metrics["train/lr"] == pytest.approx(0.05)
    artifacts = {file.path for file in client.list_artifacts(run.info.run_id)}
    assert artifacts == {"solver.prototxt", "train.csv"}
    assert not (tmp_path / "results").exists()


@pytest.mark.parametrize(
    ("error", "status"), [(Interrupted("stopped"), "KILLED"), (ValueError("x"), "FAILED")]
)
def test_mlflow_knows_how_it_ended(tmp_path: Path, error: Exception, status: str) -> None:
    job, whole = job_in(tmp_path), setting(tmp_path, "mlflow")
    with pytest.raises(type(error)), track.following(job, "first", whole, tmp_path):
        raise error
    client = client_of((tmp_path / "results" / "mlruns").absolute().as_uri())
    (run,) = client.search_runs([client.get_experiment_by_name("pets").experiment_id])
    assert run.info.status == status


@pytest.mark.parametrize("uri", ["file://{}/file/store", "sqlite:///{}/store.db", "nonsense://x"])
def test_a_store_that_cannot_be_had_is_a_message_before_the_training(
    tmp_path: Path, uri: str
) -> None:
    (tmp_path / "file").touch()
    whole = setting(tmp_path, "mlflow", mlflow_uri=uri.format(tmp_path))
    with pytest.raises(MachineError, match="MLflow's store .*mlflow_uri"):
        followed(job_in(tmp_path), whole, tmp_path)
    assert not (tmp_path / "snapshots" / "key" / "train.log").exists()


def test_what_is_not_installed_is_a_message(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(follow, "find_spec", lambda name: None)
    with pytest.raises(MachineError, match=r"runs\.a\.trackers has mlflow.*\[track\]"):
        track.needed({"a": {"trackers": ["mlflow"]}, "b": {"trackers": []}})


def test_a_tracker_that_fails_on_the_way_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from recaffe.track.tensorboard import TensorBoard

    def full(*_: object) -> None:
        raise OSError("No space left on device")

    monkeypatch.setattr(TensorBoard, "see", full)
    job = job_in(tmp_path)
    followed(job, setting(tmp_path, "tensorboard"), tmp_path)
    assert job.final and job.final.is_file()
    said = capsys.readouterr().err
    assert said.count("TensorBoard is given up") == 1
    assert "No space left on device" in said


def test_without_trackers_nothing_is_written(tmp_path: Path) -> None:
    followed(job_in(tmp_path), setting(tmp_path), tmp_path)
    assert not (tmp_path / "tensorboard").exists()
    assert not (tmp_path / "results").exists()


def read_all(log: Log) -> list[Any]:
    return [event for _, event in [*log.read(), *log.finish()]]


def test_real_caffes_log_is_read_as_well() -> None:
    events = read_all(Log(CAFFE, pictures=8))
    steps = [e.iteration for e in events if isinstance(e, Step)]
    assert steps == [0, 4, 8, 12]
    assert [e.iteration for e in events if isinstance(e, Test)] == [0, 8, 16]
    numbers = numbers_of(next(e for e in events if isinstance(e, Test)))
    assert numbers["test/total_loss"] == pytest.approx(1.58579)
    assert not any(isinstance(e, Start) for e in events)


def test_a_log_by_hand_becomes_event_files(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["tensorboard", str(CAFFE), str(tmp_path / "tensorboard")]
    assert main([*command, "--batch", "8", "--follow"]) == 0  # the log says that it is over
    found = read_back(tmp_path)
    assert [step for step, _ in found["train/loss"]] == [0, 4, 8, 12]
    assert len(found["train/images_per_second"]) == 4
    assert f"{sum(map(len, found.values()))} numbers of" in capsys.readouterr().err
    assert main(command) == 0  # once more: no point twice
    found = read_back(tmp_path)
    assert [step for step, _ in found["train/loss"]] == [0, 4, 8, 12]
    assert "train/images_per_second" not in found


def test_what_is_no_log_is_a_message(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tensorboard", __file__, str(tmp_path)]) == 1
    assert "Is it a log of Caffe's?" in capsys.readouterr().err
    assert main(["tensorboard", str(tmp_path / "none"), str(tmp_path)]) == 1


def growing(path: Path, pieces: Iterator[bytes] | list[bytes]) -> list[Any]:
    """What is read of a log that is written piece by piece."""
    log, found = Log(path, pictures=8), []
    for piece in pieces:
        with path.open("ab") as file:
            file.write(piece)
        found += [event for _, event in log.read()]
    return [*found, *(event for _, event in log.finish())]


def test_a_log_may_be_read_at_any_byte(tmp_path: Path) -> None:
    whole = CAFFE.read_bytes()
    pieces = [whole[i : i + 997] for i in range(0, len(whole), 997)]
    assert repr(growing(tmp_path / "log", pieces)) == repr(read_all(Log(CAFFE, pictures=8)))


def test_caffe_going_on_says_where_by_its_next_iteration(tmp_path: Path) -> None:
    lines = CAFFE.read_bytes().splitlines(keepends=True)
    cut = next(i for i, line in enumerate(lines) if b"Iteration 8, Testing" in line)
    began = next(i for i, line in enumerate(lines) if b"Learning Rate Policy" in line)
    until = next(i for i, line in enumerate(lines) if b"Iteration 12, lr" in line) + 1
    # To iteration 12, and once more from the snapshot of 8.
    events = growing(tmp_path / "log", [b"".join([*lines[:until], lines[began], *lines[cut:]])])
    starts = [i for i, e in enumerate(events) if isinstance(e, Start)]
    assert [events[i].iteration for i in starts] == [8]
    first = next(e for e in events[starts[0] :] if isinstance(e, Step))
    assert first.iteration == 8 and math.isnan(first.images_per_second)


def test_a_log_that_is_begun_anew_is_read_anew(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(CAFFE.read_bytes())
    log = Log(path, pictures=8)
    list(log.read())
    # As long as before, and by the time that it is looked at: only its first moment tells.
    path.write_bytes(CAFFE.read_bytes().replace(b"04:28:36", b"05:28:36"))
    events = [event for _, event in log.read()]
    assert events[0] == Start(0)
    assert [e.iteration for e in events[1:] if isinstance(e, Step)] == [0, 4, 8, 12]
    path.write_bytes(b"")
    assert [event for _, event in log.read()] == [Start(0)]


def test_stamps_with_and_without_a_year() -> None:
    moment = time.mktime((2026, 11, 25, 4, 28, 36, 0, 0, -1))
    assert moment_of("I20261125 04:28:36.500000  7 solver.cpp:1] x") == moment + 0.5
    recent = time.localtime(time.time() - 60)
    said = time.strftime("I%m%d %H:%M:%S.000000  7 solver.cpp:1] x", recent)
    assert moment_of(said) == time.mktime(recent)
    later = time.localtime(time.time() + 40 * 86400)  # of last year, then
    said = time.strftime("I%m%d %H:%M:%S.000000  7 solver.cpp:1] x", later)
    assert (moment_of(said) or math.inf) < time.time()
    assert moment_of("no stamp") is None


def test_numbers_that_are_none_are_left_out() -> None:
    step = Step(3, math.nan, 0.1, math.inf, 1.0, 1)
    assert numbers_of(step) == {"train/lr": 0.1}
    assert replace(step, loss=1.0).loss == numbers_of(replace(step, loss=1.0))["train/loss"]
