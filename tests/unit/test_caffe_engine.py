"""The caffe engine's own parts, without Caffe: what it looks for, rewrites, refuses and checks."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from recaffe import config
from recaffe.engines import pick
from recaffe.engines.base import PredictJob, Snapshot, TrainJob
from recaffe.engines.caffe import find, limits, rewrite, run, whole
from recaffe.engines.caffe.child import Child
from recaffe.engines.caffe.find import Caffe
from recaffe.errors import ConfigError, MachineError
from recaffe.net import weights
from recaffe.net.parse import read_net, to_solver
from recaffe.net.state import State, write_state
from recaffe.proto import caffe_pb2 as pb
from tests.training import write_training

CPU = Caffe(Path("/x/bin/caffe"), None, cuda=False, nccl=False)
GPU = replace(CPU, cuda=True)


def install(home: Path, program: str = "bin/caffe", library: bytes = b"") -> Path:
    """A folder that looks like an installed Caffe."""
    path = home / program
    path.parent.mkdir(parents=True)
    path.write_bytes(b"#!/bin/true\n")
    path.chmod(0o755)
    (home / "python" / "caffe").mkdir(parents=True)
    (home / "lib").mkdir()
    (home / "lib" / "libcaffe.so").write_bytes(library)
    return home


@pytest.fixture
def nothing_here(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No Caffe in the clone or on PATH."""
    monkeypatch.delenv("CAFFE_HOME", raising=False)
    monkeypatch.setattr(find, "ROOT", tmp_path / "clone")
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.setattr(find, "gpus", tuple)


@pytest.mark.usefixtures("nothing_here")
def test_a_missing_caffe_is_told_with_the_ways_to_get_it_and_the_other_engine() -> None:
    with pytest.raises(MachineError) as caught:
        find.find()
    for word in (
        "make caffe",
        "--use-singularity",
        "runtime: docker",
        "CAFFE_HOME",
        "engine: torch",
    ):
        assert word in str(caught.value)


@pytest.mark.usefixtures("nothing_here")
def test_caffe_is_found_by_caffe_home_then_in_the_clone_then_on_the_path(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    on_path = install(tmp_path / "there")
    monkeypatch.setenv("PATH", str(on_path / "bin"))
    assert find.find() == Caffe(on_path / "bin/caffe", on_path / "python", cuda=False, nccl=False)
    clone = install(tmp_path / "clone/.caffe/install")
    assert find.find().program == clone / "bin/caffe"
    own = install(tmp_path / "own", "build/tools/caffe", b"..libcublas.so.13\0libnccl.so.2\0")
    monkeypatch.setenv("CAFFE_HOME", str(own))
    assert find.find() == Caffe(own / "build/tools/caffe", own / "python", cuda=True, nccl=True)
    monkeypatch.setenv("CAFFE_HOME", str(tmp_path / "wrong"))
    with pytest.raises(
        MachineError, match=r"CAFFE_HOME is .*wrong, but there is neither bin/caffe"
    ):
        find.find()


@pytest.mark.usefixtures("nothing_here")
def test_where_a_gpu_is_the_clones_build_for_gpus_goes_first(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    plain, cuda = (install(tmp_path / "clone/.caffe" / n) for n in ("install", "install-cuda"))
    assert find.find().program == plain / "bin/caffe"
    monkeypatch.setattr(find, "gpus", lambda: ("H100",))
    assert find.find().program == cuda / "bin/caffe"


@pytest.mark.parametrize(
    ("caffe", "there", "device", "devices", "wanted"),
    [
        (CPU, 0, "auto", 1, ()),
        (CPU, 2, "auto", "auto", ()),
        (GPU, 0, "auto", 1, ()),
        (GPU, 2, "cpu", 1, ()),
        (GPU, 2, "auto", 1, (0,)),
        (GPU, 2, "cuda:1", 1, (1,)),
        (GPU, 4, "auto", 2, (0, 1)),
        (GPU, 4, "auto", "auto", (0,)),
        (replace(GPU, nccl=True), 4, "auto", "auto", (0, 1, 2)),
        (CPU, 1, "cuda", 1, "built for CPUs only"),
        (GPU, 0, "cuda", 1, "nvidia-smi shows no GPU"),
        (CPU, 2, "auto", 2, "can't share a batch"),
        (GPU, 2, "tpu", 1, "it can be auto, cpu, cuda"),
    ],
)
def test_devices_become_the_gpus_that_caffe_can_use(
    monkeypatch: pytest.MonkeyPatch,
    caffe: Caffe, there: int, device: str, devices: int | str, wanted: tuple[int, ...] | str,
) -> None:  # fmt: skip
    monkeypatch.setattr(find, "gpus", lambda: ("H100",) * there)
    if isinstance(wanted, str):
        with pytest.raises(ConfigError, match=wanted):
            run.gpus(caffe, device, devices, 9)
    else:
        assert run.gpus(caffe, device, devices, 9) == wanted


BASE = {"dataset": "x", "images": "pics", "runs": {"a": {"weights": "none", "engine": "caffe"}}}


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("precision", "bf16"), ("compile", True), ("micro_batch", 4), ("micro_batch", "auto"),
        ("channels_last", False), ("deterministic", True),
    ],
)  # fmt: skip
def test_a_setting_that_caffe_hasnt_is_refused_with_both_ways_out(key: str, value: object) -> None:
    with pytest.raises(ConfigError) as caught:
        config.complete({**BASE, "train": {key: value}})
    said = str(caught.value)
    assert f"runs.a.{key} is {value!r}" in said
    assert f"Remove {key}" in said
    assert "engine: torch" in said
    assert config.complete({**BASE, "train": {key: value}, "runs": {"a": {"weights": "none"}}})


def test_what_the_cpu_allows_is_allowed_there() -> None:
    row = {"weights": "none", "engine": "caffe", "device": "cpu", "deterministic": True}
    assert config.complete({**BASE, "runs": {"a": row}})
    with pytest.raises(ConfigError, match=r"runs\.a\.devices is 2, .*among GPUs only"):
        config.complete({**BASE, "runs": {"a": {**row, "devices": 2}}})


def test_an_auto_batch_is_named_as_the_cause() -> None:
    with pytest.raises(ConfigError, match=r"micro_batch is 'auto'.*batch_size: auto"):
        config.complete({**BASE, "train": {"batch_size": "auto"}})


def test_an_engine_that_isnt_is_refused() -> None:
    with pytest.raises(ConfigError, match="engine is 'caffe2'; it can be torch or caffe"):
        pick.train(TrainJob(Path("x"), engine="caffe2"))
    with pytest.raises(ConfigError, match="engine is 'caffe2'"):
        pick.predict(PredictJob(Path("x"), Path("y"), Path("z"), engine="caffe2"))


def job_in(folder: Path, **more: object) -> TrainJob:
    solver = write_training(folder)
    return TrainJob(solver, folder / "snapshots", folder / "final", **more)  # type: ignore[arg-type]


def rewritten(
    job: TrainJob, folder: Path, gpus: tuple[int, ...] = (), start: int = 0
) -> rewrite.Rewritten:
    return rewrite.rewrite(job, folder / "snapshots", folder / "links", gpus, start)


def test_net_and_solver_are_rewritten_beside_the_snapshots_and_the_users_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = job_in(tmp_path)
    net = (tmp_path / "net.prototxt").read_text().replace(f'"{tmp_path}/', '"')
    (tmp_path / "net.prototxt").write_text(net)
    before = {p: p.read_bytes() for p in tmp_path.glob("*.prototxt")}
    monkeypatch.chdir(tmp_path)
    out = rewritten(job, tmp_path)
    assert {p: p.read_bytes() for p in tmp_path.glob("*.prototxt")} == before
    plan = to_solver(out.solver.read_text())
    assert plan.net == str(tmp_path / "snapshots/net.prototxt")
    assert plan.snapshot_prefix == str(tmp_path / "snapshots/snap")
    assert (plan.solver_mode, plan.random_seed) == (pb.SolverParameter.CPU, 3)
    data = [x for x in read_net(out.net_file).layer if x.type == "Data"]
    for layer, name in zip(data, ("train", "val"), strict=True):
        records = Path(layer.data_param.source, "data.mdb")
        assert records.resolve() == tmp_path / name / "data.mdb"
        assert records.parent.parent == tmp_path / "links", "Caffe makes a lock.mdb there"
    assert (out.batch, data[0].data_param.batch_size) == (8, 8)


def test_each_gpu_gets_its_share_of_the_batch(tmp_path: Path) -> None:
    job = job_in(tmp_path)
    out = rewritten(job, tmp_path, (0, 1))
    sizes = [x.data_param.batch_size for x in read_net(out.net_file).layer if x.type == "Data"]
    assert (out.batch, sizes) == (8, [4, 1]), "one GPU tests"
    assert out.plan.solver_mode == pb.SolverParameter.GPU
    with pytest.raises(ConfigError, match="devices is 3, which doesn't divide batch_size 8"):
        rewritten(job, tmp_path / "b", (0, 1, 2))


@pytest.mark.parametrize(
    ("select", "patience", "snapshot", "wanted"),
    [("last", 0, 5, 5), ("best", 0, 5, 8), ("last", 2, 5, 8), ("best", 0, 4, 4), ("best", 0, 16, 8), ("best", 0, 0, 8)],
)  # fmt: skip
def test_what_is_chosen_by_a_test_has_a_snapshot_there(
    tmp_path: Path, select: str, patience: int, snapshot: int, wanted: int
) -> None:
    solver = write_training(tmp_path, snapshot=snapshot)
    job = TrainJob(solver, tmp_path / "snapshots", tmp_path / "f", select=select, patience=patience)
    assert rewritten(job, tmp_path).plan.snapshot == wanted


@pytest.mark.parametrize(
    ("batch", "iterations", "wanted"),
    [(5, 3, (1, 13)), (13, 1, (13, 1)), (64, 1, (13, 1)), (5, 2, (5, 2)), (5, 10, (5, 10))],
)
def test_a_test_counts_each_record_once_where_it_is_meant_to(
    tmp_path: Path, batch: int, iterations: int, wanted: tuple[int, int]
) -> None:
    job = job_in(tmp_path)
    for file, old, new in (
        ("net.prototxt", "batch_size: 5", f"batch_size: {batch}"),
        ("solver.prototxt", "test_iter: 3", f"test_iter: {iterations}"),
    ):
        path = tmp_path / file
        path.write_text(path.read_text().replace(old, new))
    out = rewritten(job, tmp_path)
    tested = next(
        x for x in read_net(out.net_file).layer if x.type == "Data" and x.include[0].phase
    )
    assert (tested.data_param.batch_size, out.plan.test_iter[0]) == wanted


def test_a_resumed_training_draws_other_crops(tmp_path: Path) -> None:
    assert rewritten(job_in(tmp_path), tmp_path, start=8).plan.random_seed == 11


def test_a_field_that_caffe_hasnt_is_named_with_its_line(tmp_path: Path) -> None:
    job = job_in(tmp_path)
    net = tmp_path / "net.prototxt"
    net.write_text(net.read_text().replace("kernel_size: 3", "kernel_size: 3 swish: 1"))
    with pytest.raises(
        ConfigError, match=r"line \d+: layer.convolution_param.swish.*engine: torch"
    ):
        rewritten(job, tmp_path)


def test_a_solver_of_several_nets_is_refused(tmp_path: Path) -> None:
    solver = write_training(tmp_path)
    solver.write_text(solver.read_text().replace("net:", "train_net:"))
    with pytest.raises(ConfigError, match=r"has train_net; .*one `net` for both phases"):
        rewrite.read_solver(solver)


def caffemodel(path: Path, *names: str, old: bool = False) -> Path:
    """Layers with one blob each, in today's form or that of 2014."""
    net = pb.NetParameter()
    for name in names:
        layer = net.layers.add(name=name) if old else net.layer.add(name=name)
        blob = layer.blobs.add(data=[1, 2])
        if old:
            blob.num, blob.channels, blob.height, blob.width = 1, 1, 1, 2
        else:
            blob.shape.dim.append(2)
    path.write_bytes(net.SerializeToString())
    return path


@pytest.mark.parametrize("old", [False, True])
def test_only_the_layers_to_copy_are_given_to_caffe(tmp_path: Path, old: bool) -> None:
    job = job_in(tmp_path)
    net = read_net(tmp_path / "net.prototxt")
    given = caffemodel(tmp_path / "w", "conv", "fc", "elsewhere", old=old)
    files = rewrite.start_weights(replace(job, weights=given, copy=("conv",)), net, tmp_path)
    assert files == [tmp_path / "start0.caffemodel"]
    kept = pb.NetParameter.FromString(files[0].read_bytes())
    assert [x.name for x in (kept.layers if old else kept.layer)] == ["conv"]
    blob = (kept.layers if old else kept.layer)[0].blobs[0]
    assert blob.HasField("num") == old, "by its form Caffe knows a shape of four dimensions"


def test_weights_of_which_all_that_fits_is_wanted_are_taken_as_they_are(tmp_path: Path) -> None:
    job = job_in(tmp_path)
    net = read_net(tmp_path / "net.prototxt")
    given = caffemodel(tmp_path / "w", "conv", "elsewhere")
    assert rewrite.start_weights(replace(job, weights=given, copy=("conv",)), net, tmp_path) == [
        given
    ]
    assert rewrite.start_weights(replace(job, weights=given), net, tmp_path) == [given]
    hdf5 = tmp_path / "w.caffemodel.h5"
    blobs = [("conv", "", [np.ones(2, np.float32)]), ("fc", "", [np.ones(2, np.float32)])]
    weights.write(weights.to_net("", blobs), hdf5)
    files = rewrite.start_weights(replace(job, weights=hdf5, copy=("fc",)), net, tmp_path)
    assert list(weights.read(files[0])) == ["fc"]


def snapshot(folder: Path, iteration: int = 8) -> Snapshot:
    """Files as Caffe leaves them."""
    stem = folder / f"snap_iter_{iteration}"
    model, state = stem.with_suffix(".caffemodel"), stem.with_suffix(".solverstate")
    blobs = [np.ones((2, 3), np.float32), np.ones(2, np.float32)]
    weights.write(weights.to_net("n", [("fc", "InnerProduct", blobs)]), model)
    write_state(State(iteration, str(model), 0, blobs), state)
    return Snapshot(iteration, model, state)


def test_a_snapshot_is_whole_only_to_its_last_byte(tmp_path: Path) -> None:
    made = snapshot(tmp_path)
    assert whole.problem(made) is None
    for path in (made.state, made.model):
        data = path.read_bytes()
        for size in range(len(data)):
            path.write_bytes(data[:size])
            assert whole.problem(made), (path.name, size)
        path.write_bytes(data)
    made.model.unlink()
    assert "No such file" in str(whole.problem(made))


def test_a_state_of_other_weights_or_another_iteration_is_no_snapshot(tmp_path: Path) -> None:
    made = snapshot(tmp_path)
    assert "belongs to" in str(whole.problem(replace(made, iteration=9)))
    write_state(State(8, str(made.model), 0, [np.ones((9, 9), np.float32)]), made.state)
    assert "doesn't belong to snap_iter_8.caffemodel" in str(whole.problem(made))
    write_state(State(8, "/x/snap_iter_4.caffemodel", 0, [np.ones(2, np.float32)]), made.state)
    assert "belongs to snap_iter_4.caffemodel" in str(whole.problem(made))


def test_a_moved_folders_state_goes_on_from_the_weights_beside_it(tmp_path: Path) -> None:
    (tmp_path / "old").mkdir()
    made = snapshot(tmp_path / "old")
    aside = tmp_path / "resume.solverstate"
    assert whole.pointing_to(made.model, made.state, aside) == made.state
    moved = tmp_path / "new" / made.model.name
    assert whole.pointing_to(moved, made.state, aside) == aside
    state = pb.SolverState.FromString(aside.read_bytes())
    assert (state.learned_net, state.iter, len(state.history)) == (str(moved), 8, 2)


def test_a_child_hears_no_sigterm_but_sigint(tmp_path: Path) -> None:
    code = "import signal, time; print('up', flush=True); signal.pause()"
    with Child([sys.executable, "-c", code], dict(os.environ)) as child:
        lines = child.lines(60)
        assert next(lines) == "up"
        os.kill(child.process.pid, signal.SIGTERM)
        status = Path(f"/proc/{child.process.pid}/status").read_text()
        pending = next(x for x in status.splitlines() if x.startswith("ShdPnd"))
        assert int(pending.split()[1], 16) & 1 << signal.SIGTERM - 1, "blocked, not acted on"
        assert os.getsid(child.process.pid) == child.process.pid
        child.interrupt()
        list(lines)
    assert child.process.returncode != 0


def test_a_child_ends_with_a_killed_parent(tmp_path: Path) -> None:
    sleeper = [sys.executable, "-c", "print('up', flush=True); import time; time.sleep(600)"]
    parent = (
        "import os\nfrom recaffe.engines.caffe.child import Child\n"
        f"child = Child({sleeper!r}, dict(os.environ))\n"
        "next(child.lines(60))\nprint(child.process.pid, flush=True)\nimport time; time.sleep(600)"
    )
    with subprocess.Popen([sys.executable, "-c", parent], stdout=subprocess.PIPE, text=True) as p:
        assert p.stdout is not None
        pid = int(p.stdout.readline())
        p.kill()
        # The kernel kills it while the parent is taken down; who adopts it may be slow to collect it.
        while _runs(pid):
            signal.sigtimedwait([], 0.01)


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_limits_are_those_of_the_schema() -> None:
    defaults = config.train_defaults()
    limits.check(defaults)
