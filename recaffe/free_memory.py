"""How much memory this process can still have, on a machine, in a container, in a cluster's job.

Source: cgroups(7) and the kernel's pages on memory controllers, version 1 and 2.
"""

from __future__ import annotations

import os
import resource
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_PROC = Path("/proc/self")


@dataclass(frozen=True)
class _Kind:
    """A version of the memory controller: its file system, files, and lines of memory.stat.

    `cache` counts as used, but is only the page cache's, an LMDB's pages above all.
    """

    mounted: str
    limit: str
    used: str
    cache: tuple[str, ...]


_KINDS = (
    _Kind("cgroup2", "memory.max", "memory.current", ("inactive_file", "active_file")),
    _Kind(
        "cgroup",
        "memory.limit_in_bytes",
        "memory.usage_in_bytes",
        ("total_inactive_file", "total_active_file"),
    ),
)


def free_memory() -> int:
    """Bytes: the least of the machine's free memory and what its limits leave to the process."""
    return min([_of_machine(), *_of_cgroups(_PROC), *_of_address_space()])


def _of_machine() -> int:
    try:
        for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _of_cgroups(proc: Path) -> list[int]:
    """What each limit leaves: that of the process's own group, and those of all groups above it."""
    try:
        groups = (proc / "cgroup").read_text(encoding="utf-8").splitlines()
        mounts = (proc / "mountinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return []
    found = []
    for kind in _KINDS:
        for folder in _folders(kind, groups, mounts):
            try:
                free = _number(folder / kind.limit) - _number(folder / kind.used)
                found.append(free + _cached(folder / "memory.stat", kind))
            except (OSError, ValueError):  # no limit here: no such file, or "max"
                continue
    return found


def _folders(kind: _Kind, groups: list[str], mounts: list[str]) -> Iterator[Path]:
    """The process's own group, as far as it is mounted here, and those above it."""
    controller = "" if kind.mounted == "cgroup2" else "memory"
    paths = [g.split(":", 2)[2] for g in groups if controller in g.split(":")[1].split(",")]
    for line in mounts:
        left, _, right = line.partition(" - ")
        (root, place), (system, _, options) = left.split()[3:5], right.split()[:3]
        if system != kind.mounted or (controller and controller not in options.split(",")):
            continue
        for path in map(Path, paths):
            # In a container the path may be the host's, of which only a part is mounted.
            inside = path.is_relative_to(root) and ".." not in path.parts
            own = Path(place, path.relative_to(root)) if inside else Path(place)
            yield from (f for f in (own, *own.parents) if f.is_relative_to(place))


def _number(path: Path) -> int:
    return int(path.read_text(encoding="ascii"))


def _cached(stat: Path, kind: _Kind) -> int:
    pairs = (line.split() for line in stat.read_text(encoding="ascii").splitlines())
    return sum(int(value) for name, value in pairs if name in kind.cache)


def _of_address_space() -> list[int]:
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    if limit == resource.RLIM_INFINITY:
        return []
    try:
        pages = int((_PROC / "statm").read_text(encoding="ascii").split()[0])
    except OSError:
        return [limit]
    return [limit - pages * os.sysconf("SC_PAGE_SIZE")]
