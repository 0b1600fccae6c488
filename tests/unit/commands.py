"""The command line as tests use it, and what it logs."""

import re

from recaffe.cli import main

GLOG = r"I\d{4} \d\d:\d\d:\d\d\.\d{6} +\d+ [a-z_]+\.cpp:\d+\] "


def recaffe(command: str) -> int:
    """Run a command line."""
    return main(command.split())


def texts(stderr: str) -> list[str]:
    """The log's lines without their stamps; each must have one."""
    lines = stderr.splitlines()
    assert all(re.match(GLOG, x) for x in lines), stderr
    return [re.sub(GLOG, "", x) for x in lines]
