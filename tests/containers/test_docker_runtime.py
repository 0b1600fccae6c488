"""`train.runtime: docker` on a real engine that speaks Docker's API, with recaffe's own CPU image."""

from __future__ import annotations

import fcntl
import gc
import io
import os
import shutil
import signal
import tarfile
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from docker.client import DockerClient
from docker.models.containers import Container

from recaffe.config import train_defaults
from recaffe.engines import container, jobfile, pick
from recaffe.engines.base import TrainJob
from recaffe.engines.container.confinement import confinement
from recaffe.engines.container.mounts import mounts
from recaffe.engines.container.train import LABEL
from recaffe.errors import ConfigError, Interrupted, RecaffeError, TrainError
from tests.containers import dockerd
from tests.faults.started import Started, started
from tests.training import write_training
from tests.workflow import running
from tests.workflow.faults.small import Small

# The SDK leaves it to the garbage collector to close what it listened to.
pytestmark = pytest.mark.filterwarnings("ignore:Exception ignored in. <socket")
IMAGE = "recaffe:cpu"
TRAIN = ("--until", "train")


@pytest.fixture(scope="module", autouse=True)
def engine(request: pytest.FixtureRequest) -> Iterator[DockerClient]:
    with dockerd.engine() as host, pytest.MonkeyPatch.context() as patch:
        if host is None:
            pytest.skip(
                "NO DOCKER HERE: no training was run by it. It takes a daemon, or root and dockerd "
                "(Debian: apt-get install docker.io)."
            )
        # Before DOCKER_HOST is set, by which this engine would build it once more.
        archive = request.getfixturevalue("archive")
        patch.setenv("DOCKER_HOST", host)
        with closing(DockerClient(base_url=host)) as client:
            dockerd.load(client, archive, IMAGE)
            yield client


@pytest.fixture(autouse=True)
def nothing_is_left(engine: DockerClient) -> Iterator[None]:
    yield
    gc.collect()
    left = containers(engine)
    for found in left:
        found.remove(force=True)
    assert not left, "a container outlived its training"


def containers(engine: DockerClient) -> list[Container]:
    return engine.containers.list(all=True, filters={"label": LABEL})


def settings(**values: Any) -> dict[str, Any]:
    return {**train_defaults(), "runtime": "docker", "image": IMAGE, **values}


def job_in(folder: Path, name: str, **values: Any) -> TrainJob:
    """A small training with relative paths, as a workflow's are; 200 iterations."""
    plan = {"max_iter": 200, "test_interval": 50, "snapshot": 50, "base_lr": 0.01}
    plan |= {k: values.pop(k) for k in list(values) if k in plan}
    solver = write_training(folder, **plan)
    own = Path(name) / "key"
    return TrainJob(
        solver.relative_to(folder),
        snapshots=own,
        final=own / "final.caffemodel",
        log=own / "train.log",
        csv=own / "train.csv",
        threads=1,
        **{"device": "cpu", **values},
    )


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_training_gives_the_same_bytes_as_on_the_host(
    here: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    on_host = job_in(here, "host")
    pick.train(on_host)
    job = job_in(here, "docker")
    result = container.train(job, settings(), 2000, 1)
    assert result.last_iteration == 200
    assert job.final and on_host.final
    assert job.final.read_bytes() == on_host.final.read_bytes()
    assert "train: iteration 0, validation accuracy" in capfd.readouterr().err


def test_processes_that_train_together_find_each_other_without_a_network(here: Path) -> None:
    on_host = job_in(here, "host", devices=2, max_iter=4)
    pick.train(on_host)
    job = job_in(here, "docker", devices=2, max_iter=4)
    container.train(job, settings(), 4000, 2)
    assert job.final and on_host.final
    assert job.final.read_bytes() == on_host.final.read_bytes()


def test_the_images_real_caffe_trains_in_it_too(here: Path) -> None:
    job = job_in(here, "run", engine="caffe", max_iter=20, test_interval=10, snapshot=10)
    result = container.train(job, settings(), 2000, 1)
    assert result.device == "CPU, 1 threads (Caffe)"
    assert result.last_iteration == 20
    assert job.final and job.final.stat().st_size > 0


def probe(engine: DockerClient, job: TrainJob, python: str) -> str:
    """What a program says in a container that is bound as the job's would be."""
    bounds = confinement(engine.info(), 500, 1) | {"log_config": None}
    said: bytes = engine.containers.run(
        IMAGE, ["-c", python], mounts=mounts(job), remove=True, **bounds
    )
    return said.decode()


BOUNDS = """
import os, socket
from pathlib import Path
def tried(what, *args):
    try:
        what(*args)
        return "done"
    except OSError as error:
        return error.strerror
status = dict(line.rstrip().split(":\\t") for line in open("/proc/self/status") if ":\\t" in line)
print(os.getuid(), os.getgid(), os.environ["HOME"])
print(tried(Path("{here}/run/key/new").write_text, "x"))
print(tried(Path("{here}/solver.prototxt").write_text, "x"))
print(tried(Path("{here}/net.prototxt").unlink))
print(tried(Path("{here}/train/data.mdb").open, "r+"))
print(tried(Path("{here}/train/lock.mdb").write_text, "x"))
print(os.path.exists("{here}/secret"))
print([name for _, name in socket.if_nameindex() if name != "lo"])
print(int(status["CapEff"], 16), int(status["CapBnd"], 16), status["NoNewPrivs"])
"""


def test_a_training_can_write_its_snapshots_alone_and_reach_no_network(
    engine: DockerClient, here: Path
) -> None:
    job = jobfile.absolute(job_in(here, "run"))
    (here / "run" / "key").mkdir(parents=True)
    (here / "train" / "lock.mdb").unlink()  # what Caffe would make beside an LMDB
    (here / "secret").write_text("of the neighbours")
    said = probe(engine, job, BOUNDS.format(here=here)).splitlines()
    read_only = "Read-only file system"
    assert said == [
        f"{os.getuid()} {os.getgid()} /tmp", "done", read_only, "Device or resource busy",
        read_only, read_only, "False", "[]", "0 0 1",
    ]  # fmt: skip
    container.train(job, settings(), 2000, 1)  # LMDBs without lock files on read-only mounts


def test_what_it_writes_belongs_to_the_caller(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    job = job_in(here, "run", max_iter=4)
    (here / "run" / "key").mkdir(parents=True)
    for path in (here / "run", here / "run" / "key"):
        os.chown(path, 12345, 23456)
    monkeypatch.setattr(os, "getuid", lambda: 12345)
    monkeypatch.setattr(os, "getgid", lambda: 23456)
    # Of the test's own folders some are closed to others.
    for path in (here, *here.parents):
        if path.stat().st_uid == 0 and path != Path("/"):
            path.chmod(path.stat().st_mode | 0o055)
    container.train(job, settings(), 2000, 1)
    assert job.final
    for path in (job.final, *job.final.parent.glob("snap_*")):
        assert (path.stat().st_uid, path.stat().st_gid) == (12345, 23456), path


def is_podman(engine: DockerClient) -> bool:
    return any("podman" in part["Name"].lower() for part in engine.version()["Components"])


def test_too_little_memory_is_told_as_such(engine: DockerClient, here: Path) -> None:
    words = "more than its container's 100 MB.*mem_mb=200"
    if is_podman(engine):  # it doesn't tell why a container was killed
        words = "for lack of memory, which not every engine tells .its limit is 100 MB"
    with pytest.raises(RecaffeError, match=words):
        container.train(job_in(here, "run"), settings(shm_size="16m"), 100, 1)


def test_a_mistake_inside_is_told_outside_as_it_is(here: Path) -> None:
    job = job_in(here, "run")
    net = here / "net.prototxt"
    net.write_text(net.read_text().replace('"Dropout"', '"Dropuot"'))
    with pytest.raises(RecaffeError, match="Dropuot") as told:
        pick.train(job)
    with pytest.raises(type(told.value)) as inside:
        container.train(job, settings(), 2000, 1)
    assert str(inside.value) == str(told.value)


def test_another_version_of_recaffe_in_the_image_is_refused(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jobfile, "version", lambda: "9.9.9 (training 99)")
    with pytest.raises(ConfigError, match=r"written by recaffe 9\.9\.9 .*make images"):
        container.train(job_in(here, "run"), settings(), 2000, 1)


def test_an_image_that_is_not_recaffes_is_refused(engine: DockerClient, here: Path) -> None:
    empty = io.BytesIO()
    tarfile.open(fileobj=empty, mode="w").close()
    engine.api.import_image_from_data(empty.getvalue(), repository="recaffe-test-empty")
    try:
        with pytest.raises(ConfigError, match="recaffe-test-empty has no recaffe.*make images"):
            container.train(job_in(here, "run"), settings(image="recaffe-test-empty"), 500, 1)
    finally:
        engine.images.remove("recaffe-test-empty")


def test_a_missing_image_is_told(here: Path) -> None:
    with pytest.raises(ConfigError, match="no image recaffe:nowhere on this machine"):
        container.train(job_in(here, "run"), settings(image="recaffe:nowhere"), 500, 1)


def test_a_gpu_that_the_engine_cannot_give_is_told(engine: DockerClient, here: Path) -> None:
    if "nvidia" in (engine.info().get("Runtimes") or ()):
        pytest.skip("this engine has GPUs to give")
    words = "knows no NVIDIA GPUs.*device: cpu.*engine says: could"
    if is_podman(engine):  # it starts the container without
        words = "device is cuda, but PyTorch sees no GPU"
    with pytest.raises(RecaffeError, match=words):
        container.train(job_in(here, "run", device="auto"), settings(), 2000, 1)


def test_two_trainings_of_a_run_do_not_meet(here: Path) -> None:
    job = job_in(here, "run")
    (here / "run").mkdir()
    held = os.open(here / "run", os.O_RDONLY)
    fcntl.flock(held, fcntl.LOCK_EX)
    with pytest.raises(TrainError, match="Another workflow trains in a container"):
        container.train(job, settings(), 500, 1)
    os.close(held)


def test_an_interrupt_before_the_start_leaves_nothing(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    attach = Container.attach

    def interrupted(self: Container, **options: Any) -> Any:
        os.kill(os.getpid(), signal.SIGTERM)
        return attach(self, **options)

    monkeypatch.setattr(Container, "attach", interrupted)
    with pytest.raises(Interrupted):
        container.train(job_in(here, "run"), settings(), 500, 1)


# -- the whole workflow


@pytest.fixture(scope="module")
def on_host(tmp_path_factory: pytest.TempPathFactory) -> Small:
    """A workflow that trained on the host: for seconds, with no snapshot before the last."""
    small = Small.begin(tmp_path_factory.mktemp("host"))
    small.change(
        train={
            "device": "cpu", "epochs": 2000, "snapshot_epochs": 2000, "test_interval_epochs": 100,
        }
    )  # fmt: skip
    small.run(*TRAIN, cores=2)
    return small


@pytest.fixture
def in_docker(on_host: Small, tmp_path: Path) -> Small:
    """The same before its training, which is to run in a container."""
    small = on_host.copy(tmp_path / "copy")
    for name in ("final.caffemodel", "train.csv", "train.log", "train.json"):
        (small.results / "first" / name).unlink()
    shutil.rmtree(small.results / "first" / "snapshots")
    small.change(train={"runtime": "docker", "image": IMAGE})
    return small


def wait_for_iterations(run: Started) -> int:
    """The process of the training's script, once the training is under way."""
    while run.process.poll() is None:
        for table in (run.small.results / "first" / "snapshots").glob("*/train.csv"):
            if table.read_text().count("\n") > 2:
                job = run.job("train")
                assert job is not None, "the training ended before it could be stopped"
                return job
        time.sleep(0.02)
    raise AssertionError(run.said)


def snapshots(small: Small) -> list[Path]:
    return list((small.results / "first" / "snapshots").glob("*/snap_iter_*.json"))


def final(small: Small) -> bytes:
    return (small.results / "first" / "final.caffemodel").read_bytes()


def test_stopped_by_sigterm_it_goes_on_from_its_snapshot_to_the_same_bytes(
    engine: DockerClient, on_host: Small, in_docker: Small
) -> None:
    with started(in_docker, *TRAIN) as run:
        job = wait_for_iterations(run)
        assert len(containers(engine)) == 1
        run.send(signal.SIGTERM, "job", job)
        assert run.process.wait(120) != 0
    assert "Traceback" not in run.said, run.said
    assert containers(engine) == []
    assert not (in_docker.results / "first" / "final.caffemodel").exists()
    assert len(snapshots(in_docker)) == 1
    in_docker.run(*TRAIN)
    assert "goes on from its last snapshot" in in_docker.said
    assert final(in_docker) == final(on_host)
    # Where it ran is no reason to do it again.
    in_docker.change(train={"runtime": "host"})
    assert in_docker.plan(*TRAIN) == {}


def test_ctrl_c_on_the_terminal_ends_the_container_too(
    engine: DockerClient, in_docker: Small
) -> None:
    with started(in_docker, *TRAIN) as run:
        run.send(signal.SIGINT, "all", wait_for_iterations(run))
        assert run.process.wait(120) != 0
    assert "Traceback" not in run.said, run.said
    assert containers(engine) == []
    assert len(snapshots(in_docker)) == 1


def test_what_a_killed_workflow_left_is_ended_by_the_next_which_goes_on_from_there(
    engine: DockerClient, on_host: Small, in_docker: Small
) -> None:
    with started(in_docker, *TRAIN) as run:
        job = wait_for_iterations(run)
        run.send(signal.SIGKILL, "job", job)
        run.send(signal.SIGKILL, "snakemake", job)
    (left,) = containers(engine)
    assert left.status == "running"
    assert snapshots(in_docker) == []
    in_docker.run(*TRAIN, "--rerun-incomplete")
    assert f"Ending the container {left.name}, which a killed workflow left" in in_docker.said
    log = (in_docker.results / "first" / "train.log").read_text()
    assert "Restoring previous solver status from" in log
    assert final(in_docker) == final(on_host)


def test_without_an_engine_the_workflow_says_so_in_one_message(
    in_docker: Small, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOCKER_HOST", f"unix://{in_docker.folder}/nowhere.sock")
    running.refused(in_docker.file, "no container engine listens on", options=TRAIN)
