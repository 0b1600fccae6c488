"""A real SLURM of several nodes on this one machine, for the time of a test run: no systemd, no trace left.

All its files lie in one folder, its daemons are children of this process, and its ports are free ones. Debian's
slurmd can be several nodes of one host, told apart by name and port, and may claim more than the host has.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import socket
import stat
import subprocess
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "squeue")
PACKAGES = ("slurm-wlm", "munge")
# Seconds for a daemon to come up; it takes one on an idle machine.
PATIENCE = 60
CONFIG = """\
ClusterName=recaffe
SlurmctldHost=localhost
SlurmctldPort={port}
SlurmUser=root
SlurmdUser=root
SlurmdParameters=config_overrides
AuthType=auth/munge
AuthInfo=socket={folder}/munge.sock
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool/%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.%n.log
MpiDefault=none
SwitchType=switch/none
TaskPlugin=task/none
ProctrackType=proctrack/linuxproc
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=task=1
JobAcctGatherParams=OverMemoryKill
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SchedulerParameters=batch_sched_delay=0,bf_interval=1
GresTypes=gpu
ReturnToService=2
KillWait=20
MinJobAge=600
JobRequeue=1
"""
NODE = (
    "NodeName={name} NodeHostname=localhost NodeAddr=127.0.0.1 Port={port} CPUs={cpus} "
    "SocketsPerBoard=1 CoresPerSocket={cpus} ThreadsPerCore=1 RealMemory={memory} Gres=gpu:{gpus}\n"
)
# The environment's setting is lost on the way: the executor's own step inside a job drops SLURM_CONF.
SRUN = '#!/bin/sh\nSLURM_CONF={conf} exec {srun} "$@"\n'


def hindrance() -> str:
    """Why no SLURM can run here, or "". Missing packages are installed where that is possible."""
    if os.geteuid() != 0:
        return "SLURM's daemons are started as root here"
    if all(map(shutil.which, PROGRAMS)):
        return ""
    if shutil.which("apt-get") is None:
        return f"there is no {', '.join(p for p in PROGRAMS if shutil.which(p) is None)}"
    env = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    wait = ("-qq", "-o", "DPkg::Lock::Timeout=300")
    with Path(tempfile.gettempdir(), "recaffe-packages.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # another process of pytest may be at it
        for words in (("update",), ("install", "-y", "--no-install-recommends", *PACKAGES)):
            if not all(map(shutil.which, PROGRAMS)):
                subprocess.run(
                    ["apt-get", *wait, *words], env=env, check=False, capture_output=True
                )
    if all(map(shutil.which, PROGRAMS)):
        return ""
    return f"apt-get installed no {' and '.join(PACKAGES)}"


class Cluster:
    """Nodes `n1`, `n2`, … in two partitions, `cpu` (the default) and `gpu`, of the same nodes."""

    def __init__(
        self, folder: Path, nodes: int = 3, cpus: int = 8, memory: int = 32000, gpus: int = 1
    ) -> None:
        self.folder = folder
        self.nodes = [f"n{i + 1}" for i in range(nodes)]
        self._daemons: dict[str, subprocess.Popen[bytes]] = {}
        for name in ("state", "bin", *(f"spool/{n}" for n in self.nodes)):
            (folder / name).mkdir(parents=True)
        conf = folder / "slurm.conf"
        # What Snakemake runs in: the cluster's programs know their cluster by it.
        self.environment = {"SLURM_CONF": str(conf), "PATH": f"{folder}/bin:{os.environ['PATH']}"}
        first, *ports = _free_ports(nodes + 1)
        lines = [
            NODE.format(name=name, port=port, cpus=cpus, memory=memory, gpus=gpus)
            for name, port in zip(self.nodes, ports, strict=True)
        ]
        for partition, default in (("cpu", "YES"), ("gpu", "NO")):
            lines.append(
                f"PartitionName={partition} Nodes={','.join(self.nodes)} Default={default} "
                "MaxTime=UNLIMITED DefaultTime=10\n"
            )
        conf.write_text(CONFIG.format(folder=folder, port=first) + "".join(lines), encoding="utf-8")
        (folder / "cgroup.conf").write_text("CgroupPlugin=autodetect\n", encoding="utf-8")
        devices = [_device(folder / f"gpu{i}", i) for i in range(gpus)]
        gres = "".join(f"Name=gpu File={path}\n" for path in devices)
        (folder / "gres.conf").write_text(f"AutoDetect=off\n{gres}", encoding="utf-8")
        srun = folder / "bin" / "srun"
        srun.write_text(SRUN.format(conf=conf, srun=shutil.which("srun")), encoding="utf-8")
        srun.chmod(0o755)

    def start(self) -> None:
        """Start the daemons, and wait until every node is idle. Raises `RuntimeError` if one doesn't come up."""
        with ExitStack() as failed:
            failed.callback(self.stop)
            self._munge()
            self._start("slurmctld", "-D", "-c")
            self.wait(lambda: "is UP" in self.ask("scontrol", "ping"), "slurmctld")
            for name in self.nodes:
                self._start(f"slurmd.{name}", "-D", "-N", name)
            self.wait(lambda: self.states() == dict.fromkeys(self.nodes, "idle"), "the nodes")
            failed.pop_all()

    def stop(self) -> None:
        """Cancel what runs, and end the daemons, the youngest first."""
        with suppress(subprocess.SubprocessError, RuntimeError):
            for job in self.jobs():
                self.ask("scancel", "--full", job)
            self.wait(lambda: not self.jobs(), "its jobs' end")
        for name in reversed(self._daemons):
            self._end(name)
        self._daemons.clear()

    def restart_controller(self) -> None:
        """slurmctld goes, and comes back with the state that it had saved."""
        self._end("slurmctld")
        self._start("slurmctld", "-D", "-i")
        self.wait(lambda: "is UP" in self.ask("scontrol", "ping"), "slurmctld")

    def ask(self, *command: str) -> str:
        """What a program of SLURM's says; "" if it failed."""
        done = subprocess.run(
            command, env={**os.environ, **self.environment}, capture_output=True, text=True,
            timeout=PATIENCE, check=False,
        )  # fmt: skip
        return done.stdout.strip() if done.returncode == 0 else ""

    def states(self) -> dict[str, str]:
        """`idle`, `mixed`, `drained` … by node."""
        lines = self.ask("sinfo", "-h", "-N", "-p", "cpu", "-o", "%N %T").splitlines()
        return dict(line.split() for line in lines)

    def jobs(self, rule: str = "", state: str = "") -> list[str]:
        """The numbers of the jobs in the queue: of a rule, in a state (`RUNNING`), or all."""
        command = ["squeue", "-h", "-o", "%A %k"] + (["-t", state] if state else [])
        rows = [line.split(maxsplit=1) for line in self.ask(*command).splitlines()]
        # A job's comment is rule_NAME_wildcards_…; a group's is rule_GROUP.
        return [row[0] for row in rows if not rule or row[-1].startswith(f"rule_{rule}")]

    def show(self, job: str) -> dict[str, str]:
        """What `scontrol show job` says, by name."""
        said = self.ask("scontrol", "show", "job", "-o", job)
        return dict(word.split("=", 1) for word in said.split() if "=" in word)

    def wait(self, holds: Callable[[], object], what: str, seconds: float = PATIENCE) -> None:
        """Return when `holds()`; raises `RuntimeError` if it never does."""
        deadline = time.monotonic() + seconds
        while not holds():
            if time.monotonic() > deadline:
                raise RuntimeError(f"Waited {seconds:.0f} s for {what}; see {self.folder}/*.log.")
            time.sleep(0.1)

    def _munge(self) -> None:
        key = self.folder / "munge.key"
        key.write_bytes(os.urandom(128))
        key.chmod(0o400)
        socket_file = self.folder / "munge.sock"
        self._start(
            "munged", "--foreground", "--force", f"--key-file={key}", f"--socket={socket_file}",
            f"--pid-file={self.folder}/munged.pid", f"--seed-file={self.folder}/munged.seed",
            f"--log-file={self.folder}/munged.log",
        )  # fmt: skip
        self.wait(socket_file.is_socket, "munged")

    def _start(self, name: str, *options: str) -> None:
        with (self.folder / f"{name}.out").open("ab") as out:
            self._daemons[name] = subprocess.Popen(
                [name.partition(".")[0], *options], env={**os.environ, **self.environment},
                stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True,
            )  # fmt: skip

    def _end(self, name: str) -> None:
        process = self._daemons[name]
        process.terminate()
        try:
            process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _free_ports(count: int) -> list[int]:
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


def _device(path: Path, number: int) -> Path:
    """A character device that stands for a GPU: SLURM counts no other file."""
    try:
        os.mknod(path, 0o666 | stat.S_IFCHR, os.makedev(1, 3))
    except OSError:  # not allowed in many containers
        return (Path("/dev/null"), Path("/dev/zero"), Path("/dev/full"))[number]
    return path
