"""What the doctor says of machines that have things, lack them, or have them broken."""

from __future__ import annotations

import errno
import fcntl
import gc
import http.server
import json
import os
import signal
import socketserver
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from recaffe import config
from recaffe.cli import main
from recaffe.config import ROOT
from recaffe.doctor import (
    bounded,
    cluster,
    containers,
    disk,
    engines,
    examine,
    memory,
    python,
    ways,
)
from recaffe.doctor.bounded import Group
from recaffe.doctor.result import About, Finding
from recaffe.engines import preflight
from recaffe.engines.caffe import find
from recaffe.errors import MachineError
from recaffe.files import is_alive

Program = Callable[..., Path]
Found = dict[str, Finding]


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Program:
    """Put a shell script on a PATH that has nothing else."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))

    def write(name: str, *lines: str) -> Path:
        file = folder / name
        file.write_text("\n".join(("#!/bin/sh", *lines, "")))
        file.chmod(0o755)
        return file

    return write


def about(named: bool = True, images: Any = "x", **run: Any) -> About:
    """A config of one run."""
    given = {"dataset": "d", "images": images, "runs": {"a": {"weights": "none", **run}}}
    return About(config.complete(given), named)


def by_name(found: Iterable[Finding]) -> Found:
    return {finding.name: finding for finding in found}


# -- the bounds


def test_a_check_that_hangs_dies_or_raises_is_told_and_the_others_stay(tmp_path: Path) -> None:
    pid = tmp_path / "pid"

    def hangs(_: About) -> Iterator[Finding]:
        yield Finding("before", "ok", "found in time")
        child = subprocess.Popen(["sleep", "600"])
        pid.write_text(str(child.pid))
        time.sleep(600)

    def dies(_: About) -> Iterator[Finding]:
        os.kill(os.getpid(), signal.SIGKILL)
        yield Finding("never", "ok", "")

    def raises(_: About) -> Iterator[Finding]:
        yield Finding("half", "ok", "")
        raise ValueError("odd machine")

    def fine(_: About) -> Iterator[Finding]:
        yield Finding("fine", "ok", "")

    groups = [Group(f.__name__, f) for f in (dies, raises, fine, hangs)]
    found = bounded.run(groups, about(), seconds=2)
    assert [(f.name, f.state) for f in found] == [
        ("dies", "problem"), ("half", "ok"), ("raises", "problem"), ("fine", "ok"), ("before", "ok"),
        ("hangs", "problem"),
    ]  # fmt: skip
    said = by_name(found)
    assert "within 2 seconds" in said["hangs"].said
    assert "-9" in said["dies"].said
    assert "ValueError: odd machine" in said["raises"].said
    orphan = Path(f"/proc/{pid.read_text()}/stat")
    for _ in range(500):  # a killed one may wait for init to take it
        if not orphan.exists() or orphan.read_text().split()[2] == "Z":
            return
        time.sleep(0.01)
    pytest.fail(f"what the check had started is alive: {is_alive(int(pid.read_text()))}")


def test_a_program_that_hangs_fails_or_is_missing_is_one_message(program: Program) -> None:
    sleeps = program("sleeps", "/bin/sleep 600 & wait")
    fails = program("fails", "echo first >&2", "echo 'no such thing' >&2", "exit 3")
    with pytest.raises(MachineError, match="sleeps doesn't answer within 0 seconds"):
        bounded.ask(str(sleeps), seconds=0.2)
    with pytest.raises(MachineError, match=r"fails \(3\) and says: no such thing"):
        bounded.ask(str(fails))
    with pytest.raises(MachineError, match="nowhere can't be run"):
        bounded.ask("nowhere")


# -- Python


def test_packages_that_lack_or_differ_from_the_pins_are_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert all(f.ok for f in python.check(about()) if f.name in ("Python", "packages"))
    real = python.metadata.distributions

    class Other:
        name, version = "numpy", "1.0"

    def changed() -> list[Any]:
        kept = [d for d in real() if d.name not in ("lmdb", "numpy")]
        return [*kept, Other()]

    monkeypatch.setattr(python.metadata, "distributions", changed)
    said = by_name(python.check(about()))
    assert said["packages"].state == "missing" and "lmdb" in said["packages"].said
    assert said["pins"].state == "problem" and "numpy 1.0 (pinned " in said["pins"].said
    assert "make setup" in said["pins"].todo


def test_another_python_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(python.sys, "version_info", (3, 9, 1))
    said = by_name(python.check(about()))["Python"]
    assert said.state == "problem" and "3.9.1" in said.said and "3.11" in said.said


# -- disk and memory


def test_a_disk_is_tried_and_left_as_it_was(tmp_path: Path) -> None:
    it = about()
    it.config["results"] = str(tmp_path / "not" / "yet")
    said = by_name(disk.check(it))
    assert said["file locks"].ok and said["hard links"].ok
    assert str(tmp_path) in said["disk"].said
    assert not list(tmp_path.iterdir())


def test_a_disk_without_room_locks_or_links_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    it = about()
    it.config["results"] = str(tmp_path)
    monkeypatch.setattr(disk, "free_space", lambda path: 10**8)
    monkeypatch.setattr(fcntl, "flock", refuse)
    monkeypatch.setattr(os, "link", refuse)
    said = by_name(disk.check(it))
    assert [said[n].state for n in ("disk", "file locks", "hard links")] == [
        "problem", "problem", "missing",
    ]  # fmt: skip
    assert "No locks available" in said["file locks"].said
    monkeypatch.setattr(disk, "TemporaryDirectory", refuse)
    assert [f.state for f in disk.check(it)] == ["problem"]


def test_pictures_are_counted_and_must_have_room(
    class_folders: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    it = about(images=str(class_folders))
    (said,) = disk.pictures(it)
    assert said.ok and "120 in 3 classes; their records take about 0.0 GB" in said.said
    it.config["split"]["folds"] = 50
    (said,) = disk.pictures(it)
    assert "records of 50 folds take about 1.2 GB" in said.said
    monkeypatch.setattr(disk, "free_space", lambda path: 10**6)
    (said,) = disk.pictures(it)
    assert said.state == "problem" and "lmdb.encoded" in said.todo
    (said,) = disk.pictures(about(images="nowhere"))
    assert said.state == "problem" and "recaffe init" in said.todo
    assert not list(disk.pictures(about(named=False, images="nowhere")))


def test_little_memory_and_more_threads_than_cores_are_problems(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(memory, "free_memory", lambda: 64 * 10**9)
    assert by_name(memory.check(about(threads=1)))["memory"].ok
    monkeypatch.setattr(memory, "free_memory", lambda: 5 * 10**8)
    said = by_name(memory.check(about(threads=1000)))
    assert said["memory"].state == "problem" and "0.5 GB" in said["memory"].said
    assert said["cores"].state == "problem" and "1000" in said["cores"].said
    monkeypatch.setattr(memory, "_SHM", Path("/nowhere"))
    assert by_name(memory.check(about()))["shared memory"].state == "missing"


# -- GPUs and engines


@pytest.fixture
def smi(program: Program, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], Path]]:
    """Put an nvidia-smi on PATH that lists this card."""
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(preflight, "_has_newer_libcuda", lambda: False)
    preflight.why_torch_sees_none.cache_clear()
    find.gpus.cache_clear()
    yield lambda line: program("nvidia-smi", f"echo '{line}'")
    preflight.why_torch_sees_none.cache_clear()
    find.gpus.cache_clear()


def test_without_a_driver_the_cpu_is_used(program: Program) -> None:
    said = by_name(engines.gpus(about()))
    assert said["GPU"].state == "missing" and "run on the CPU" in said["GPU"].said
    assert said["engine: torch"].ok
    assert "torch on the GPU" not in said


def test_a_driver_that_hangs_costs_its_patience_only(
    program: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    program("nvidia-smi", "exec /bin/sleep 600")
    monkeypatch.setattr(preflight, "patience", 0.2)
    said = by_name(engines.gpus(about()))
    assert said["GPU"].state == "problem" and "timed out" in said["GPU"].said


def test_a_card_that_torch_can_not_use_is_told_with_the_reason(
    smi: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    smi("0, Tesla K80, 595.45.04, GPU-a, 3.7")
    build = preflight.Build("PyTorch 9", (13, 0), preflight.cards.CAFFE.codes, "Take another.")
    monkeypatch.setattr(preflight, "torch_build", lambda: build)
    said = by_name(engines.gpus(about()))
    assert (
        said["GPU"].ok and "Tesla K80 (compute capability 3.7, driver 595.45.4)" in said["GPU"].said
    )
    assert (
        said["torch on the GPU"].state == "problem" and "too old" in said["torch on the GPU"].said
    )
    monkeypatch.setattr(preflight, "torch_build", lambda: None)
    said = by_name(engines.gpus(about()))
    assert (
        said["torch on the GPU"].state == "missing" and "for CPUs" in said["torch on the GPU"].said
    )


@pytest.fixture
def caffe(tmp_path: Path, program: Program, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """A made-up Caffe in CAFFE_HOME, and a Python that imports pycaffe or not."""

    def install(*lines: str, imports: bool = True, cuda: bool = False) -> None:
        file = tmp_path / "caffe" / "bin" / "caffe"
        file.parent.mkdir(parents=True, exist_ok=True)
        mark = "# libcublas.so" if cuda else ""
        file.write_text("\n".join(("#!/bin/sh", *lines, mark, "")))
        file.chmod(0o755)
        monkeypatch.setenv("CAFFE_HOME", str(tmp_path / "caffe"))
        broken = "echo \"ModuleNotFoundError: No module named 'caffe'\" >&2; exit 1"
        monkeypatch.setenv(
            "CAFFE_PYTHON", str(program("pycaffes", "exit 0" if imports else broken))
        )

    return install


def test_caffe_must_start_and_python_import_it(
    caffe: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    caffe("echo caffe version 1.0.0")
    said = by_name(engines.caffe(about()))
    assert said["engine: caffe"].said.startswith("caffe version 1.0.0,") and said["pycaffe"].ok
    assert "Caffe on the GPU" not in said
    caffe("echo 'libprotobuf.so.32: cannot open shared object file' >&2", "exit 127", imports=False)
    said = by_name(engines.caffe(about()))
    assert said["engine: caffe"].state == "problem" and "libprotobuf" in said["engine: caffe"].said
    assert said["pycaffe"].state == "problem" and "No module named 'caffe'" in said["pycaffe"].said
    monkeypatch.setenv("CAFFE_HOME", "/nowhere")
    (missing,) = engines.caffe(about())
    assert missing.state == "missing" and "/nowhere" in missing.said


def test_a_caffe_for_gpus_is_held_against_the_cards(
    caffe: Callable[..., None], smi: Callable[[str], Path], tmp_path: Path
) -> None:
    smi("0, H100, 595.45.04, GPU-a, 9.0")
    caffe("echo caffe version 1.0.0")
    assert by_name(engines.caffe(about()))["Caffe on the GPU"].state == "missing"
    caffe("echo caffe version 1.0.0", cuda=True)
    facts = {"cuda": "13.0", "archs": ["9.0"], "ptx": []}
    (tmp_path / "caffe" / "build.json").write_text(json.dumps(facts))
    assert by_name(engines.caffe(about()))["Caffe on the GPU"].ok
    (tmp_path / "caffe" / "build.json").write_text(json.dumps({**facts, "archs": ["7.5"]}))
    said = by_name(engines.caffe(about()))["Caffe on the GPU"]
    assert said.state == "problem" and "H100 has compute capability 9.0" in said.said


# -- containers and clusters


@pytest.fixture
def daemon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Any]]:
    """A container engine that answers what is put here, by the end of the path."""
    answers: dict[str, Any] = {
        "version": {"Version": "28.2", "ApiVersion": "1.44", "Components": [{"Name": "Engine"}]},
        "info": {"Runtimes": {"runc": {}}},
        "recaffe:cpu/json": {"Id": "sha256:1", "Size": 2.5e9},
    }

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            known = next((v for k, v in answers.items() if self.path.endswith(k)), None)
            body = json.dumps(known or {"message": "No such image"}).encode()
            self.send_response(404 if known is None else 200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def address_string(self) -> str:
            return "test"

        def log_message(self, *_: Any) -> None:
            pass

    socket = tmp_path / "docker.sock"
    monkeypatch.setenv("DOCKER_HOST", f"unix://{socket}")
    with socketserver.ThreadingUnixStreamServer(str(socket), Handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield answers
        server.shutdown()
        thread.join()


def test_an_engine_its_images_and_its_gpus_are_seen(daemon: dict[str, Any]) -> None:
    said = by_name(containers.docker(about(runtime="docker", image="mine:1")))
    assert said["docker"].ok and said["docker"].said == "Engine 28.2 answers"
    assert said["docker with GPUs"].state == "missing"
    assert said["image recaffe:cpu"].said == "2.5 GB"
    assert said["image mine:1"].state == said["image recaffe:gpu"].state == "missing"
    daemon["info"] = {"Runtimes": {"nvidia": {}}}
    assert by_name(containers.docker(about()))["docker with GPUs"].ok


@pytest.mark.filterwarnings("ignore:Exception ignored in. <socket")
def test_no_engine_and_one_that_hangs_are_told_apart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "silent.sock"
    monkeypatch.setenv("DOCKER_HOST", f"unix://{path}")
    monkeypatch.setattr(containers, "PATIENCE", 0.2)
    (said,) = containers.docker(about())
    assert said.state == "missing" and "No container engine listens" in said.said
    with socketserver.UnixStreamServer(str(path), http.server.BaseHTTPRequestHandler):
        (said,) = containers.docker(about())
    gc.collect()  # the SDK drops a socket that it couldn't connect, with a warning
    assert said.state == "problem" and "timed out" in said.said.lower()


def test_apptainer_and_podman_are_asked_for_their_versions(program: Program) -> None:
    assert by_name(containers.others(about()))["apptainer"].state == "missing"
    program("singularity", "echo singularity-ce version 4.1")
    program("podman", "echo broken >&2; exit 125")
    said = by_name(containers.others(about()))
    assert "singularity-ce version 4.1" in said["apptainer"].said and said["apptainer"].ok
    assert said["podman"].state == "problem" and "broken" in said["podman"].said


def test_a_cluster_is_one_that_answers(program: Program) -> None:
    assert by_name(cluster.check(about()))["SLURM"].state == "missing"
    program("sinfo", "echo 'gpu* 4'", "echo 'long 12'")
    said = by_name(cluster.check(about()))
    assert said["SLURM"].said == "partitions: gpu* (4 nodes), long (12 nodes)"
    assert said["SLURM plugin"].ok
    program("sinfo", "echo 'Unable to contact slurm controller' >&2", "exit 1")
    said = by_name(cluster.check(about()))
    assert said["SLURM"].state == "problem" and "Unable to contact" in said["SLURM"].said


# -- what follows


def test_the_ways_follow_from_what_was_found() -> None:
    names = [*ways._ALWAYS, "engine: torch", "docker", "image recaffe:cpu"]
    found = [Finding(name, "ok", "") for name in names]
    works = {w.command: w for w in ways.of(found, about(named=False), "c.yaml")}
    assert works["snakemake --cores N --configfile c.yaml"].works
    assert works["make run"].works and works["runtime: docker"].works
    assert works["engine: caffe"].lacks == ("engine: caffe", "pycaffe")
    assert works["--profile profiles/slurm"].lacks == ("SLURM", "SLURM plugin")


@pytest.mark.parametrize(
    ("run", "wants"),
    [
        ({"engine": "torch"}, {"engine: torch"}),
        ({"engine": "caffe"}, {"engine: caffe", "pycaffe"}),
        ({"engine": "torch", "device": "cuda"}, {"engine: torch", "GPU", "torch on the GPU"}),
        ({"engine": "caffe", "device": "cuda"}, {"GPU", "Caffe on the GPU"}),
        ({"runtime": "docker", "image": "i:1"}, {"docker", "image i:1", "docker with GPUs"}),
        ({"nodes": 2, "batch_size": 32}, {"SLURM", "SLURM plugin"}),
    ],
)
def test_a_config_wants_what_its_runs_use(run: dict[str, Any], wants: set[str]) -> None:
    assert wants <= set(ways.needed(about(**run)))
    if "device" not in run and "runtime" not in run:
        assert not {"GPU", "docker"} & set(ways.needed(about(**run)))
    quiet = about(runtime="docker", device="cpu")
    assert "docker with GPUs" not in ways.needed(quiet)


def test_a_problem_comes_with_what_to_do() -> None:
    found = [Finding("disk", "problem", "full\nreally", "Free some.")]
    shown = examine.lines(found, ways.of(found, about(), "c"))
    assert shown[0] == "problem  disk  full really"
    assert "→ Free some." in shown[1]
    assert any(line.startswith("  no   make run: lacks") for line in shown)


def test_a_config_that_is_wrong_is_one_message(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "c.yaml"
    file.write_text("dataset: d\nimages: x\nruns: {a: {}}\nengin: torch\n")
    assert main(["doctor", "--config", str(file)]) == 1
    assert "unknown key 'engin'" in capsys.readouterr().err


def test_this_machine_is_examined(class_folders: Path, tmp_path: Path) -> None:
    file = tmp_path / "own.yaml"
    given = {
        "dataset": "own",
        "images": str(class_folders),
        "train": {"engine": "torch", "threads": 1},
        "runs": {"a": {"weights": "none"}},
    }
    file.write_text(json.dumps(given))
    done = subprocess.run(
        [sys.executable, "-m", "recaffe", "doctor", "--json", "--config", str(file)],
        cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    said = json.loads(done.stdout)
    found = {f["name"]: f["state"] for f in said["findings"]}
    assert (
        found["Python"] == found["packages"] == found["engine: torch"] == found["pictures"] == "ok"
    )
    assert {"SLURM", "apptainer", "docker", "GPU", "engine: caffe", "memory", "disk"} <= set(found)
    assert set(found.values()) <= {"ok", "missing", "problem"}
    assert done.returncode == (0 if said["works"] else 1)
    assert "Traceback" not in done.stdout + done.stderr
