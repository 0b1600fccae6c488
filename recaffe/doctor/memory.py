"""Memory, cores, shared memory."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from recaffe import needs
from recaffe.doctor.result import About, Finding
from recaffe.free_memory import free_memory

_SHM = Path("/dev/shm")


def check(about: About) -> Iterator[Finding]:
    """memory, cores, shared memory."""
    free, whole = free_memory(), os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    wanted = 1e6 * max(needs.training(run["batch_size"]) for run in about.runs)
    said = f"{free / 1e9:,.1f} GB free of {whole / 1e9:,.1f} GB, limits of containers and jobs included"
    if free < wanted / 4:
        todo = (
            "End other programs, raise the limit, or take a smaller net, batch_size or micro_batch."
        )
        yield Finding("memory", "problem", f"{said}: too little for a training", todo)
    elif free < wanted:
        yield Finding(
            "memory",
            "ok",
            f"{said}: enough for small nets and batches (jobs of a cluster ask for {wanted / 1e9:.1f})",
        )
    else:
        yield Finding("memory", "ok", said)
    cores = len(os.sched_getaffinity(0))
    threads = max(run["threads"] for run in about.runs)
    if threads > cores:
        todo = f"Set train.threads to at most {cores}, before the first training."
        said = f"{cores} for this process, and train.threads is {threads}: a training will be slow"
        yield Finding("cores", "problem", said, todo)
    else:
        yield Finding("cores", "ok", f"{cores}: snakemake --cores {cores}")
    yield _shared()


def _shared() -> Finding:
    try:
        free = shutil.disk_usage(_SHM).free
    except OSError as error:
        said = f"no {_SHM} ({error.strerror}): several devices can't share a batch"
        return Finding("shared memory", "missing", said)
    said = f"{free / 1e6:,.0f} MB free in {_SHM}"
    if free < 256e6:
        todo = "In a container: docker run --shm-size=1g."
        return Finding("shared memory", "problem", f"{said}: little for several devices", todo)
    return Finding("shared memory", "ok", said)
