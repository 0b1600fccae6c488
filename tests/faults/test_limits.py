"""A full disk, a read-only one, too little memory, a killed worker: a message, then the right result."""

from __future__ import annotations

import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.conftest import save
from tests.faults.started import OUTPUTS, PATIENCE, leftovers, started
from tests.workflow import running
from tests.workflow.faults.small import Small


def failed(small: Small, *words: str) -> str:
    """The workflow fails, with these words and without a traceback."""
    done = subprocess.run(
        running.command(small.file, root=small.root, cores=2),
        capture_output=True, text=True, stdin=subprocess.DEVNULL, cwd=small.folder,
        env=running.environment(), check=False,
    )  # fmt: skip
    said = done.stdout + done.stderr
    assert done.returncode != 0, said
    assert "Traceback" not in said, said
    for word in words:
        assert word in said, said
    return said


def ends_as_ever(small: Small, undisturbed: Small) -> None:
    small.run(cores=2)
    assert small.artifacts() == undisturbed.artifacts()
    assert not leftovers(small)


@contextmanager
def tmpfs(folder: Path, options: str) -> Iterator[None]:
    folder.mkdir(exist_ok=True)
    command = ["mount", "-t", "tmpfs", "-o", options, "none", str(folder)]
    if shutil.which("mount") is None or subprocess.run(command, capture_output=True).returncode:
        pytest.skip("only root may mount a small disk here")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def test_a_file_that_may_not_grow_is_explained_in_every_rule(
    begun: Small, undisturbed: Small, tmp_path: Path
) -> None:
    small = begun.copy(tmp_path / "copy")
    met = set()
    for rule in OUTPUTS:
        with started(small, "--until", rule) as run:
            job = run.wait_for(rule)
            if job is None:  # it went by beside another
                continue
            # No byte for most, so that the log is what can't grow; for LMDBs some pages.
            limit = 8192 if rule == "lmdb" else 0
            with suppress(ProcessLookupError):
                resource.prlimit(job, resource.RLIMIT_FSIZE, (limit, limit))
            if run.process.wait(PATIENCE) == 0:
                continue  # it was over before the limit came
        assert "File too large: " in run.said, (rule, run.said)
        assert "Traceback" not in run.said, (rule, run.said)
        met.add(rule)
    assert len(met) > len(OUTPUTS) / 2
    ends_as_ever(small, undisturbed)


def test_a_full_disk_is_explained_in_whatever_rule_it_happens(
    begun: Small, undisturbed: Small, tmp_path: Path
) -> None:
    small = begun.copy(tmp_path / "copy")
    small.results.parent.mkdir()
    with tmpfs(small.results.parent, "size=256k"):
        said = failed(small, "on a larger disk")
        assert "No space left" in said or "MiB free" in said, said
    ends_as_ever(small, undisturbed)


def test_results_that_cannot_be_written_are_named(begun: Small, tmp_path: Path) -> None:
    small = begun.copy(tmp_path / "copy")
    with tmpfs(small.results.parent, "size=16m,ro"):
        failed(small, "results", "Read-only file system", "Make its folder writable")


def test_a_killed_worker_is_one_message_and_the_same_command_works_again(
    begun: Small, tmp_path: Path
) -> None:
    small = begun.copy(tmp_path / "copy")
    # Enough to decode that the workers are at it when the kill comes, on any machine.
    for i in range(8):
        picture = np.random.default_rng(i).integers(0, 256, (2400, 2400, 3), np.uint8)
        save(picture, small.folder / "pics" / "a" / f"large {i}.png")
    with started(small) as run:
        job = run.wait_for("scan", small.results / "logs" / "scan.log")
        assert job is not None, run.said
        children = Path(f"/proc/{job}/task/{job}/children")
        # Two: a library that looks about the machine starts one program at a time.
        while len(workers := children.read_text().split()) < 2:
            time.sleep(0.005)
        for worker in workers:
            os.kill(int(worker), signal.SIGKILL)
        run.process.wait(60)
    assert "worker processes was killed from outside" in run.said
    assert "Traceback" not in run.said
    assert not leftovers(small)
    small.run(cores=2)
    assert not leftovers(small)
    undisturbed = small.without_results(tmp_path / "undisturbed")
    undisturbed.run(cores=2)
    assert small.artifacts() == undisturbed.artifacts()


def test_a_workflow_that_lacks_memory_says_so_and_ends_right_once_it_has_it(
    begun: Small, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Address space is what `ulimit -v` counts: threads reserve much of it, on some machines more.
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MALLOC_ARENA_MAX"):
        monkeypatch.setenv(name, "1")
    small = begun.copy(tmp_path / "copy")
    limit = address_space(small, "scan") + (64 << 20)
    Image.new("RGB", (8000, 8000), "red").save(small.folder / "pics" / "a" / "large.jpg")
    with started(small) as run:
        resource.prlimit(run.process.pid, resource.RLIMIT_AS, (limit, limit))
        assert run.process.wait(PATIENCE) != 0
    assert "Not enough memory for a picture of 8000×8000 pixels" in run.said
    assert "Traceback" not in run.said
    assert not leftovers(small)
    small.run(cores=2)
    assert "large.jpg" not in (small.results / "data" / "rejected.csv").read_text()
    undisturbed = small.without_results(tmp_path / "undisturbed")
    undisturbed.run(cores=2)
    assert small.artifacts() == undisturbed.artifacts()


def address_space(small: Small, until: str) -> int:
    """Bytes of it that Snakemake itself takes to make this, at its highest."""
    peak = 0
    with started(small, "--until", until) as run:
        while run.process.poll() is None:
            status = Path(f"/proc/{run.process.pid}/status").read_text()
            if found := re.search(r"VmPeak:\s+(\d+) kB", status):
                peak = int(found[1])
            time.sleep(0.01)
    assert run.process.returncode == 0, run.said
    return peak << 10


@pytest.mark.parametrize(
    "error",
    ["MemoryError()", "RuntimeError('std::bad_alloc')", 'RuntimeError("can\'t start new thread")'],
)
def test_a_lack_of_memory_is_one_message(error: str, tmp_path: Path) -> None:
    done = in_a_script(f"raise {error}", tmp_path)
    assert done.returncode == 1
    assert "Not enough memory" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_limit_of_memory_leaves_nothing_half_written(tmp_path: Path) -> None:
    target = tmp_path / "large"
    body = (
        "import resource; from recaffe.files import write_aside\n"
        "    resource.setrlimit(resource.RLIMIT_AS, (2**30, 2**30))\n"
        f"    with write_aside({str(target)!r}) as aside:\n"
        "        aside.write_bytes(b'half'); bytearray(2**31)"
    )
    done = in_a_script(body, tmp_path)
    assert done.returncode == 1
    assert "Not enough memory" in done.stderr
    assert [p.name for p in tmp_path.iterdir()] == ["x.log"]


def in_a_script(body: str, tmp_path: Path) -> subprocess.CompletedProcess[str]:
    code = f"from recaffe.script import script\nwith script({str(tmp_path / 'x.log')!r}):\n    {body}\n"
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
