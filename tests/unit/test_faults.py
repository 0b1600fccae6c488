"""What is left by killed processes goes, dates keep their order, and a stop is never lost."""

from __future__ import annotations

import errno
import fcntl
import os
import platform
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from recaffe import clock, files, progress, stop, turns
from recaffe.engines import signals
from recaffe.errors import MachineError, is_out_of_memory
from recaffe.pool import ordered_map, worker_pool


def gone() -> int:
    """The number of a process that has ended."""
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait()
        return process.pid


def aside(path: Path, host: str, pid: int) -> Path:
    return path.with_name(f".{path.name}.{host}.{pid}.tmp")


def test_what_a_killed_process_wrote_aside_goes_with_the_next_write(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    orphan, living = aside(path, files._HOST, gone()), aside(path, files._HOST, os.getppid())
    of_another = aside(tmp_path / "x.csv.more", files._HOST, gone())
    for file in (orphan, living, of_another):
        file.mkdir()
    files.write_text(path, "whole")
    assert not orphan.exists()
    assert living.exists(), "its process may still be writing"
    assert of_another.exists(), "that is another file's"


def test_what_another_machine_wrote_aside_goes_once_it_has_rested(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    fresh, old = aside(path, "abc123", 1), aside(path, "abc124", 2)
    for file in (fresh, old):
        file.write_text("half")
    os.utime(old, (time.time() - 7200,) * 2)
    files.write_text(path, "whole")
    assert fresh.exists()
    assert not old.exists()


def test_a_file_that_may_not_grow_is_no_full_disk(tmp_path: Path) -> None:
    said = str(files.explain_os_error(OSError(errno.EFBIG, "File too large"), tmp_path / "x"))
    assert said.startswith(f"File too large: {tmp_path / 'x'}") and "ulimit -f" in said
    assert "space" not in said


def test_dates_from_the_future_are_put_back_in_their_order(tmp_path: Path) -> None:
    now = time.time()
    for name, date in (("a", now - 50), ("b", now + 1000), ("c", now + 2000)):
        (tmp_path / name).write_text(name)
        os.utime(tmp_path / name, (date, date))
    assert "2000 s" in clock.settle([tmp_path, tmp_path / "nowhere"])
    a, b, c = (os.stat(tmp_path / name).st_mtime for name in "abc")
    assert c <= time.time()
    assert b - a == pytest.approx(1050, abs=1)
    assert c - b == pytest.approx(1000, abs=1)
    assert clock.settle([tmp_path]) == ""


@pytest.fixture
def forgotten() -> Iterator[None]:
    """Whatever `turns` holds for this process is let go after the test."""
    yield
    while turns._held:
        turns._held.pop().close()


def stale_lock(folder: Path) -> Path:
    (folder / ".snakemake" / "locks").mkdir(parents=True)
    lock = folder / ".snakemake" / "locks" / "0.input.lock"
    lock.write_text("x")
    return lock


@pytest.mark.usefixtures("forgotten")
def test_locks_of_the_dead_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RECAFFE_MAIN", "")
    lock = stale_lock(tmp_path)
    assert turns.begin(tmp_path)
    assert not lock.exists()


@pytest.mark.usefixtures("forgotten")
def test_locks_stay_while_another_workflow_lives(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RECAFFE_MAIN", "")
    lock = stale_lock(tmp_path)
    with (tmp_path / turns._WORKFLOW).open("a") as other:
        fcntl.flock(other, fcntl.LOCK_SH)
        assert not turns.begin(tmp_path)
    assert lock.exists()


@pytest.mark.usefixtures("forgotten")
def test_locks_stay_where_another_machine_may_be_at_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RECAFFE_MAIN", "")
    lock = stale_lock(tmp_path)
    (tmp_path / turns._WORKFLOW).write_text(f"{platform.node()}\nanother\n")
    turns.begin(tmp_path)
    assert lock.exists()


def test_a_job_stops_when_its_workflow_is_killed(tmp_path: Path) -> None:
    job = (
        "import time; from recaffe.script import script\n"
        f"with script({str(tmp_path / 'x.log')!r}):\n    time.sleep(60)"
    )
    main = (
        "import subprocess, sys; from recaffe import turns; turns.begin()\n"
        f"subprocess.run([sys.executable, '-c', {job!r}])"
    )
    with subprocess.Popen(
        [sys.executable, "-c", main], cwd=tmp_path, stderr=subprocess.PIPE, text=True
    ) as process:
        while not (tmp_path / "x.log").exists():
            assert process.poll() is None
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert process.stderr is not None
        assert "Stopped. Run the same command again" in process.stderr.read()


def test_a_job_that_begins_after_its_workflow_was_killed_ends_at_once(tmp_path: Path) -> None:
    job = (
        "import sys; sys.stdin.read(); from recaffe.script import script\n"
        f"with script({str(tmp_path / 'x.log')!r}):\n    import time; time.sleep(60)"
    )
    main = (
        "import os, subprocess, sys; from recaffe import turns; turns.begin()\n"
        f"subprocess.Popen([sys.executable, '-c', {job!r}]); print(flush=True); sys.stdin.read(1)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", main],
        cwd=tmp_path,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdin.close()  # now the job goes on
        assert "Stopped. Run the same command again" in process.stderr.read()


def test_so_does_one_whose_session_began_outside_of_its_container() -> None:
    unshare = ["unshare", "--user", "--map-root-user", "--pid", "--fork", "--mount-proc"]
    if subprocess.run([*unshare, "true"], capture_output=True, check=False).returncode:
        pytest.skip("no user namespaces here")
    test = f"{__file__}::test_a_job_that_begins_after_its_workflow_was_killed_ends_at_once"
    command = [*unshare, sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", test]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stdout


def test_a_ctrl_c_that_comes_twice_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Apptainer passes on what the terminal has sent already; a person presses again later."""
    with signals.requests("stop", "stop") as asked:
        for _ in range(3):
            os.kill(os.getpid(), signal.SIGINT)
            assert asked.asked == signals.STOP
        monkeypatch.setattr(stop, "ECHO", 0.0)
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)


def test_what_is_cleaned_up_after_a_ctrl_c_is_not_cut_short_by_its_echo(tmp_path: Path) -> None:
    code = (
        "import os, signal; from recaffe.script import script\n"
        f"with script({str(tmp_path / 'x.log')!r}):\n"
        "    try: os.kill(os.getpid(), signal.SIGINT)\n"
        "    finally: os.kill(os.getpid(), signal.SIGINT); print('cleaned up')\n"
    )
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 130
    assert "cleaned up" in (tmp_path / "x.log").read_text()
    assert "Stopped" in done.stderr and "Traceback" not in done.stderr


def test_a_swallowed_interrupt_still_stops_what_shows_progress(tmp_path: Path) -> None:
    code = (
        "import os, signal; from recaffe.progress import progress; from recaffe.script import script\n"
        f"with script({str(tmp_path / 'x.log')!r}):\n"
        "    try: os.kill(os.getpid(), signal.SIGTERM); import time; time.sleep(9)\n"
        "    except BaseException: pass\n"
        "    for _ in progress(range(9), 9, 'work', 'img'): print('worked')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 130
    assert "Stopped" in done.stderr
    assert "worked" not in (tmp_path / "x.log").read_text()


def test_under_nohup_a_closed_terminal_stops_nothing(tmp_path: Path) -> None:
    code = (
        "import os, signal; from recaffe.script import script\n"
        f"with script({str(tmp_path / 'x.log')!r}):\n"
        "    os.kill(os.getpid(), signal.SIGHUP); print('went on')"
    )
    command = ["nohup", sys.executable, "-c", code]
    subprocess.run(command, check=True, capture_output=True, stdin=subprocess.DEVNULL)
    assert "went on" in (tmp_path / "x.log").read_text()


def kill_yourself(_: int) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_killed_worker_is_a_message() -> None:
    with pytest.raises(MachineError, match="killed from outside"), worker_pool(2) as pool:
        list(ordered_map(pool, kill_yourself, range(40)))


def test_progress_passes_everything_on_where_nobody_asked_to_stop() -> None:
    assert not stop.asked()
    assert list(progress.progress(range(3), 3, "x", "img")) == [0, 1, 2]


def test_lack_of_memory_is_told_from_other_errors() -> None:
    assert is_out_of_memory(MemoryError())
    assert is_out_of_memory(RuntimeError("[enforce fail] can't allocate memory"))
    assert not is_out_of_memory(RuntimeError("another"))
    assert not is_out_of_memory(MachineError("out of memory, said by us"))
