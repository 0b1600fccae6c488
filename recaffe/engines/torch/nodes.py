"""Training on several nodes of a cluster: inside a SLURM job, `srun` starts one `torchrun` on each."""

from __future__ import annotations

import os
import shlex
import shutil
import socket
from collections.abc import Sequence

from recaffe.errors import ConfigError


def command(torchrun: Sequence[str], options: Sequence[str], nodes: int, cores: int) -> list[str]:
    """The command `torchrun` with `options`, on each of the job's nodes with so many `cores`.

    They meet at the node that runs this, which SLURM numbers 0. What says which one each of them is
    stands in its own environment, so a shell there puts it in.

    Raises `ConfigError` outside a SLURM job.
    """
    number = os.environ.get("SLURM_JOB_ID")
    if number is None or shutil.which("srun") is None:
        raise ConfigError(
            f"nodes is {nodes}, but this is no SLURM job. Run the workflow with --profile "
            "profiles/slurm, or set nodes: 1."
        )
    node, address = '--node-rank="$SLURM_NODEID"', '--master-addr="$SLURM_LAUNCH_NODE_IPADDR"'
    place = f"--nnodes={nodes} {node} {address} --master-port={_free_port()}"
    text = f"exec {shlex.join(torchrun)} {place} {shlex.join(options)}"
    return [
        "srun", f"--jobid={number}", f"--nodes={nodes}", f"--ntasks={nodes}", "--ntasks-per-node=1",
        f"--cpus-per-task={cores}", "--kill-on-bad-exit=0", "sh", "-c", text,
    ]  # fmt: skip


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("", 0))
        return int(one.getsockname()[1])
