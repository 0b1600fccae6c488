"""A workflow on the cluster, as a user starts it on the login node."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import yaml

from tests.cluster.slurm import Cluster
from tests.workflow import running
from tests.workflow.faults.small import Small

# No workflow of these tests takes half as long, on a machine that is twice as slow.
LIMIT = 900
# Read by the clone that conftest.py makes: seconds that each step of a training takes longer.
PAUSE = "RECAFFE_TEST_PAUSE"
# For tests of what happens to a training.
ONLY = ("--until", "train")


class OnCluster:
    """A Snakemake that sends its jobs to the cluster."""

    def __init__(self, small: Small, cluster: Cluster, process: subprocess.Popen[str]) -> None:
        self.small, self.cluster, self.process = small, cluster, process
        self._lines: list[str] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    @property
    def said(self) -> str:
        """What it has said so far, and for jobs that failed what SLURM's logs say."""
        logs = (self.small.folder / ".snakemake" / "slurm_logs").rglob("*.log")
        texts = [f"---- {log}\n{log.read_text(errors='replace')}" for log in sorted(logs)]
        return "".join(self._lines) + "".join(texts)

    def log(self, job: str) -> str:
        """SLURM's own output of a job that failed."""
        (file,) = (self.small.folder / ".snakemake" / "slurm_logs").rglob(f"{job}.log")
        return file.read_text(errors="replace")

    def submitted(self, rule: str = "") -> list[str]:
        """The numbers of the SLURM jobs of a rule or group so far, or of all."""
        found = re.findall(
            r"SLURM jobid (\d+) \(log: .*?slurm_logs/(?:rule|group)_(\w+)", "".join(self._lines)
        )
        return [number for number, name in found if not rule or name.startswith(rule)]

    def names(self) -> list[str]:
        """The rules and groups of the jobs that were submitted, sorted."""
        text = "".join(self._lines)
        return sorted(re.findall(r"slurm_logs/(?:rule|group)_(\w+)", text))

    def wait_until_training(self) -> str:
        """Wait until a training has made some steps and saved a snapshot; returns its job's number."""
        snapshots = self.small.results / "first" / "snapshots"
        self.cluster.wait(
            lambda: any(snapshots.glob("*/snap_iter_*.json")) or self._over(), "training", LIMIT
        )
        assert not self._over(), self.said
        return self.submitted("train")[-1]

    def interrupt(self) -> None:
        """Ctrl-C, which ends it and its jobs."""
        os.killpg(self.process.pid, signal.SIGINT)
        self.process.wait(LIMIT)
        assert self.process.returncode != 0
        self.cluster.wait(lambda: not self.cluster.jobs(), "an empty queue")

    def end(self) -> str:
        """Wait for its end, which must be a good one with no job left; returns what it said."""
        try:
            self.process.wait(LIMIT)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"no end within {LIMIT} s:\n{self.said}") from None
        self._reader.join(60)
        assert self.process.returncode == 0, self.said
        self.cluster.wait(lambda: not self.cluster.jobs(), "an empty queue")
        self.cluster.wait(lambda: not self.processes(), "the end of all processes")
        return self.said

    def processes(self) -> list[str]:
        """Command lines of processes that work in this workflow's folder."""
        found = []
        for entry in Path("/proc").iterdir():
            with suppress(OSError):
                words = (entry / "cmdline").read_bytes() if entry.name.isdigit() else b""
                if str(self.small.folder).encode() + b"/" in words:
                    found.append(words.replace(b"\0", b" ").decode(errors="replace"))
        return found

    def _over(self) -> bool:
        return self.process.poll() is not None

    def _read(self) -> None:
        assert self.process.stdout is not None
        self._lines.extend(self.process.stdout)


def command(small: Small, *options: str, **profile: Any) -> list[str]:
    """The workflow's command line with a profile as `on_cluster` changes it."""
    return [
        sys.executable, "-m", "snakemake", "--snakefile", str(small.root / "Snakefile"),
        "--directory", str(small.folder), "--configfile", str(small.file),
        "--workflow-profile", str(small.root / "profiles" / "default"),
        "--profile", str(write_profile(small, **profile)), *options,
    ]  # fmt: skip


@contextmanager
def on_cluster(
    small: Small, cluster: Cluster, *options: str, pause: float = 0, **profile: Any
) -> Iterator[OnCluster]:
    """Run the workflow with `profiles/slurm`, entries changed as a user would; stopped at the end.

    Keys of `profile` are entries' names with `_` for `-`; of `set_resources`, single values.
    """
    env = {**running.environment(), **cluster.environment, PAUSE: str(pause)}
    with subprocess.Popen(
        command(small, *options, **profile), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        cwd=small.folder, env=env, text=True, start_new_session=True,
    ) as process:  # fmt: skip
        try:
            yield OnCluster(small, cluster, process)
        finally:
            with suppress(ProcessLookupError, subprocess.TimeoutExpired):
                os.killpg(process.pid, signal.SIGINT)  # cancels its jobs
                process.wait(60)
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


def write_profile(small: Small, **changes: Any) -> Path:
    """A copy of profiles/slurm for the test's cluster; returns its folder."""
    text = (small.root / "profiles" / "slurm" / "config.yaml").read_text(encoding="utf-8")
    profile = yaml.safe_load(text)
    resources = profile["set-resources"]
    for rule in ("train", "predict", "linear"):
        resources[rule] = {**resources.get(rule, {}), "slurm_partition": "'gpu'"}
    for rule, values in changes.pop("set_resources", {}).items():
        resources[rule] = {**resources.get(rule, {}), **values}
    profile["slurm-init-seconds-before-status-checks"] = 5
    profile.update({name.replace("_", "-"): value for name, value in changes.items()})
    folder = small.folder.with_name(f"{small.folder.name}-profile")
    folder.mkdir(exist_ok=True)
    (folder / "config.yaml").write_text(yaml.safe_dump(profile), encoding="utf-8")
    return folder


def trained(small: Small) -> dict[str, Any]:
    """What a training makes."""
    wanted = ("first/final.caffemodel", "first/train.csv")
    return {name: value for name, value in small.artifacts().items() if name in wanted}


def resumed(small: Small) -> int:
    """How often the training went on from a snapshot."""
    log = (small.results / "first" / "train.log").read_text(encoding="utf-8")
    return log.count("Restoring previous solver status")
