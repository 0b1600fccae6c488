"""One live view of the whole workflow on a terminal, below what else is said there.

It is drawn by Snakemake's main process from Snakemake's own events and the jobs' status files, so that
a job may run in this machine, in a container or on a cluster. It is a handler of Snakemake's logger and
no plugin of its, so that it needs no installation and a Snakemake without it works as well.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Collection
from typing import Any

from recaffe import status

_SMALLEST = 30, 5  # columns and lines of a terminal below which nothing is drawn


def begin(workflow: Any, title: str, wanted: bool = True) -> None:
    """Called by a workflow's main process, before there are jobs: from the first one on there is a view.

    None without a terminal, with --dry-run, with --quiet progress or all, beside a logger plugin that
    draws something itself, or where it is not `wanted`. Then the jobs say how far they are in lines,
    unless they are to be quiet.
    """
    settings = workflow.output_settings
    quiet = {str(item) for item in settings.quiet or ()}
    _hush(quiet)
    if not wanted or settings.dryrun or quiet & {"progress", "all"} or not _is_drawable():
        return
    if any(handler.writes_to_stream for handler in workflow.logger_manager.plugin_handlers):
        return
    try:
        from recaffe.live.handler import attach
    except ImportError:  # no rich, or another Snakemake
        return
    attach(title, settings, says_jobs="rules" not in quiet)


def _hush(quiet: Collection[str]) -> None:
    """Tell the jobs to come what to leave out."""
    loudness = next((word for word in ("all", "progress") if word in quiet), "")
    for name in (status.QUIET, status.WATCHED):
        os.environ.pop(name, None)
    if loudness:
        os.environ[status.QUIET] = loudness


def _is_drawable() -> bool:
    if os.environ.get("TERM", "dumb") in ("dumb", "unknown") or not os.isatty(2):
        return False
    size = os.get_terminal_size(2)
    return sys.platform != "win32" and size.columns >= _SMALLEST[0] and size.lines >= _SMALLEST[1]
