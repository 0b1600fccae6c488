"""Snakemake's events, as a handler of its logger hears them, drawn."""

from __future__ import annotations

import logging
import os
import sys
from typing import Any

from snakemake.logging import logger
from snakemake_interface_logger_plugins.common import LogEvent

from recaffe import status
from recaffe.live.jobs import Jobs
from recaffe.live.screen import Screen
from recaffe.live.table import Painter

# What Snakemake says on the terminal that the view says better. Its log file has it all.
_HIDDEN = {
    LogEvent.JOB_INFO, LogEvent.GROUP_INFO, LogEvent.SHELLCMD, LogEvent.JOB_STARTED,
    LogEvent.JOB_FINISHED, LogEvent.PROGRESS,
}  # fmt: skip
_CHATTER = "Select jobs to execute..."
_STOPPING = ("Terminating processes on user request", "Will exit after finishing")
_TARGET = "all"  # the rule that makes nothing


def attach(title: str, settings: Any, says_jobs: bool) -> None:
    """Draw the workflow whose events come from now on; see `live.begin`."""
    hidden = set() if settings.verbose else set(_HIDDEN)
    if settings.printshellcmds:
        hidden -= {LogEvent.SHELLCMD}
    colour = not settings.nocolor and not os.environ.get("NO_COLOR")
    encoding = sys.stderr.encoding or "ascii"
    view = View(Painter(title, colour, encoding), hidden, says_jobs)
    logger.addHandler(view)


class View(logging.Handler):
    """Begins with the first event that says what there is to do; ends when Snakemake's logging does."""

    def __init__(self, painter: Painter, hidden: set[LogEvent], says_jobs: bool) -> None:
        super().__init__(logging.INFO)
        self.jobs, self.painter, self.hidden, self.says_jobs = Jobs(), painter, hidden, says_jobs
        self.screen: Screen | None = None
        self.stopping = False

    def emit(self, record: logging.LogRecord) -> None:
        """Hear an event. One that isn't understood ends the view, never the workflow."""
        try:
            self._hear(getattr(record, "event", None), record)
        except Exception as error:
            self._give_up(error)

    def close(self) -> None:
        """Give the terminal back."""
        if self.screen is not None:
            self.screen.end()
            self.screen = None
            self.jobs.end()
        super().close()

    def _hear(self, event: LogEvent | None, record: Any) -> None:
        if event == LogEvent.RUN_INFO:
            self.jobs.plan(record.stats)
            if self.screen is None:
                self._begin()
        elif event == LogEvent.JOB_INFO:
            self.jobs.start(
                record.jobid, record.rule_name, [str(v) for v in record.wildcards.values()],
                list(record.log), record.local,
            )  # fmt: skip
        elif event == LogEvent.JOB_FINISHED:
            job = self.jobs.finish(record.job_id)
            if job is not None and self.screen and self.says_jobs and job.rule != _TARGET:
                self.screen.say(self.painter.done(job))
        elif event == LogEvent.JOB_ERROR:
            self.jobs.fail(record.jobid)
        elif event == LogEvent.PROGRESS:
            self.jobs.total = record.total
        elif event is None and str(record.msg).startswith(_STOPPING):
            self.stopping = True

    def _give_up(self, error: Exception) -> None:
        """Leave the terminal to Snakemake's own words and the jobs' lines."""
        logger.removeHandler(self)
        self.hidden = set()
        for name in (status.QUIET, status.WATCHED):
            os.environ.pop(name, None)
        self.close()
        print(f"There is no live view with this Snakemake: {error!r}", file=sys.stderr)

    def _begin(self) -> None:
        # Its own lines say how far a job is.
        os.environ |= {status.QUIET: "progress", status.WATCHED: "1"}
        for handler in logger.handlers:
            if handler.name == "DefaultStreamHandler":
                handler.addFilter(self._is_said)
        self.screen = Screen(self._lines, self.painter.encoding)

    def _is_said(self, record: logging.LogRecord) -> bool:
        event = getattr(record, "event", None)
        return event not in self.hidden and not (self.hidden and record.msg == _CHATTER)

    def _lines(self, columns: int, rows: int) -> list[str]:
        return self.painter.lines(self.jobs, columns, rows, self.stopping)
