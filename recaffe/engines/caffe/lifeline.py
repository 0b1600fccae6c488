"""Become a program that ends with its parent: `lifeline.py PARENT PROGRAM ARGUMENTS…`.

By itself, since between fork and exec a process with threads must do next to nothing.
"""

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


def main() -> None:
    """Never returns."""
    parent, program = int(sys.argv[1]), sys.argv[2:]
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it ended before the line above
        sys.exit(f"{program[0]}: the process that started it has ended")
    # Python ignores it; other programs expect it to end them.
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    # A cluster sends SIGTERM to all processes of a job. Caffe would die of it without a snapshot; the
    # parent turns it into a SIGINT.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    os.execv(program[0], program)


main()
