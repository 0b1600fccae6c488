"""A training from a file, as containers run it."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from recaffe.engines import jobfile, run
from recaffe.engines.base import TrainJob
from recaffe.errors import ConfigError, Interrupted, TrainError
from tests.training import write_training


def written(folder: Path, job: TrainJob, **values: object) -> tuple[str, str]:
    text = json.dumps({**json.loads(jobfile.to_json(job)), **values})
    (folder / "job.json").write_text(text, encoding="utf-8")
    return str(folder / "job.json"), str(folder / "result.json")


def test_a_job_from_a_file_is_trained_and_its_result_written(tmp_path: Path) -> None:
    job = TrainJob(
        write_training(tmp_path, max_iter=4, test_interval=4),
        final=tmp_path / "final.caffemodel",
        device="cpu",
    )
    job_file, result = written(tmp_path, job)
    assert run.main([job_file, result]) == 0
    outcome = jobfile.read_outcome(Path(result))
    assert outcome is not None
    assert jobfile.result_of(outcome).last_iteration == 4
    assert (tmp_path / "final.caffemodel").stat().st_size > 0


def test_a_mistake_is_told_and_left_for_who_started_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    job_file, result = written(tmp_path, TrainJob(tmp_path / "no_solver"))
    Path(result).write_text('{"result": {}}')  # of an earlier run: must not pass for this one's
    assert run.main([job_file, result]) == 1
    assert "no_solver can't be read" in capsys.readouterr().err
    outcome = jobfile.read_outcome(Path(result))
    assert outcome is not None
    with pytest.raises(ConfigError, match="no_solver can't be read"):
        jobfile.result_of(outcome)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"recaffe": "0.0.1 (training 1)"}, "written by recaffe 0.0.1 .training 1., but it is recaffe"),
        ({"engine": "theano"}, "engine is 'theano'"),
        ({"wights": 1}, "no 'wights'"),
    ],
)  # fmt: skip
def test_a_job_that_is_not_for_this_recaffe_is_refused(
    tmp_path: Path, values: dict[str, object], words: str
) -> None:
    job_file, result = written(tmp_path, TrainJob(tmp_path / "s"), **values)
    assert run.main([job_file, result]) == 1
    outcome = jobfile.read_outcome(Path(result))
    assert outcome is not None
    with pytest.raises(ConfigError, match=words):
        jobfile.result_of(outcome)


@pytest.mark.parametrize("text", ["", "[]", '{"solver"'])
def test_a_file_that_holds_no_job_is_one_message(
    tmp_path: Path, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "job.json").write_text(text)
    assert run.main([str(tmp_path / "job.json"), str(tmp_path / "result.json")]) == 1
    assert capsys.readouterr().err.count("\n") == 1


def test_sigterm_ends_it_with_a_snapshot_and_status_130(tmp_path: Path) -> None:
    snapshots = tmp_path / "snapshots"
    solver = write_training(tmp_path, max_iter=1_000_000, test_interval=1_000_000, snapshot=0)
    log = tmp_path / "train.log"
    job_file, result = written(
        tmp_path, TrainJob(solver, snapshots=snapshots, log=log, device="cpu")
    )
    process = subprocess.Popen(
        [sys.executable, "-m", "recaffe.engines.run", job_file, result],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    try:
        # Of a step: at the test before the first one, there is nothing to save yet.
        while "lr = " not in (log.read_text() if log.is_file() else ""):
            assert process.poll() is None
            time.sleep(0.05)
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 130
    finally:
        process.kill()
    assert list(snapshots.glob("snap_iter_*.json"))
    outcome = jobfile.read_outcome(Path(result))
    assert outcome is not None
    with pytest.raises(Interrupted):
        jobfile.result_of(outcome)


def test_paths_become_absolute_and_links_stay_links(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    job = TrainJob(Path("s"), weights=(Path("link/w"), Path("/v")), log=Path("l"))
    assert jobfile.absolute(job) == replace(
        job,
        solver=tmp_path / "s",
        weights=(tmp_path / "link" / "w", Path("/v")),
        log=tmp_path / "l",
    )


def test_an_outcome_of_no_known_error_is_still_an_error() -> None:
    with pytest.raises(TrainError, match="said nothing"):
        jobfile.result_of({"error": "SystemExit"})
