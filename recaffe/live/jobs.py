"""The workflow's jobs, by Snakemake's events: which run, since when, how many are done and to come."""

from __future__ import annotations

import math
import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from recaffe import status

# Rules that last: without a time for each that is to come, there is none for the workflow.
_LONG = {"scan", "lmdb", "lmdb_shard", "train", "predict", "linear"}


@dataclass
class Job:
    """One that was started. `said` is its status, as it was last read at the moment `read`."""

    rule: str
    name: str
    files: Sequence[Path] = ()
    # On this machine; another one's waits in a queue until it says something.
    local: bool = True
    began: float = field(default_factory=time.monotonic)
    said: dict[str, Any] = field(default_factory=dict)
    read: float = math.nan

    @property
    def is_queued(self) -> bool:
        """Whether nothing shows that it runs."""
        return not self.local and math.isnan(self.read)

    @property
    def seconds(self) -> float:
        """Since it was started."""
        return time.monotonic() - self.began

    @property
    def left(self) -> float:
        """Seconds that it has left by its own account; nan if it gives none."""
        left = number(self.said, "left") - (time.monotonic() - self.read)
        return left if math.isnan(left) else max(0.0, left)

    def end(self) -> None:
        """Read its last word, and remove its file."""
        self.look()
        for file in self.files:
            status.remove(file)

    def look(self) -> None:
        """Read its status file."""
        for file in self.files:
            said = status.read(file)
            if said is not None and (said != self.said or self.is_queued or math.isnan(self.read)):
                if self.is_queued:
                    self.began = time.monotonic()
                self.said, self.read = said, time.monotonic()


def number(said: dict[str, Any], key: str) -> float:
    """A number of a status, or nan."""
    value = said.get(key)
    return float(value) if isinstance(value, int | float) else math.nan


class Jobs:
    """All of one workflow; events come from several threads."""

    def __init__(self) -> None:
        self.done, self.total, self.began = 0, 0, time.monotonic()
        self._running: dict[int, Job] = {}
        self._waiting: Counter[str] = Counter()
        self._lasted: dict[str, list[float]] = {}
        self._lock = threading.Lock()

    @property
    def seconds(self) -> float:
        """Since the workflow's jobs are known."""
        return time.monotonic() - self.began

    def plan(self, stats: dict[str, int]) -> None:
        """How many jobs of each rule there will be."""
        with self._lock:
            self.total = stats.get("total", 0)
            self._waiting = Counter({rule: n for rule, n in stats.items() if rule != "total"})

    def start(
        self, number: int, rule: str, wildcards: Sequence[str], logs: Sequence[str], local: bool
    ) -> None:
        """A job starts, or is sent to a cluster. What an earlier one left in its file is removed."""
        files = [status.file_of(log) for log in logs]
        for file in files:
            status.remove(file)
        name = " ".join([rule, *(value for value in wildcards if value)])
        with self._lock:
            self._waiting[rule] -= 1
            self._running[number] = Job(rule, name, files, local)

    def finish(self, number: int) -> Job | None:
        """A job has ended well."""
        with self._lock:
            job = self._running.pop(number, None)
            if job is not None:
                self.done += 1
                self._lasted.setdefault(job.rule, []).append(job.seconds)
        if job is not None:
            job.end()
        return job

    def fail(self, number: int) -> None:
        """A job has failed; it may come again."""
        with self._lock:
            if job := self._running.pop(number, None):
                self._waiting[job.rule] += 1
        if job is not None:
            job.end()

    def end(self) -> None:
        """Nobody looks any more."""
        with self._lock:
            jobs, self._running = list(self._running.values()), {}
        for job in jobs:
            job.end()

    def running(self) -> list[Job]:
        """Those under way, with what they say now; those in a queue last."""
        with self._lock:
            jobs = list(self._running.values())
        for job in jobs:
            job.look()
        return sorted(jobs, key=lambda job: job.is_queued)

    def left(self, running: Sequence[Job]) -> float:
        """About how many seconds the workflow has left; nan as long as too little is known.

        Jobs to come last as those of their rule have lasted, or will; other rules than the long ones
        take moments.
        """
        active = [job for job in running if not job.is_queued]
        lasting = {rule: sum(all_) / len(all_) for rule, all_ in self._lasted.items()}
        for job in active:
            if not math.isnan(job.left):
                lasting.setdefault(job.rule, job.seconds + job.left)
        known = [job.left for job in active if not math.isnan(job.left)]
        with self._lock:
            waiting = {rule: n for rule, n in self._waiting.items() if n > 0}
        if not known or (_LONG & waiting.keys()) - lasting.keys():
            return math.nan
        later = sum(n * lasting.get(rule, 0.0) for rule, n in waiting.items())
        later += sum(lasting.get(job.rule, 0.0) for job in running if job.is_queued)
        return max(known) + later / max(1, len(known))
