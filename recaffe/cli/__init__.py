"""The `recaffe` command: Caffe's own subcommands and flags, on the built-in engine.

Each subcommand is a module with `add_arguments(parser)` and `main(args) -> int`, and the first line
of its docstring is its help. What takes long to import is imported in `main`, so that `--help` and
a mistyped flag answer at once.
"""

from __future__ import annotations

import argparse
import difflib
import re
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import NoReturn

from recaffe import __version__
from recaffe.errors import Interrupted, RecaffeError

COMMANDS = (
    "train", "lr-range", "test", "time", "tensorboard", "predict", "serve", "summary", "draw", "upgrade", "convert", "import", "weights",
    "verify", "why", "init", "doctor",
)  # fmt: skip


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one line, as every other mistake is told."""

    def error(self, message: str) -> NoReturn:
        print(f"recaffe: {message} (see {self.prog} --help)", file=sys.stderr)
        raise SystemExit(2)

    def parse_known_args(self, args=None, namespace=None):
        """Names a mistyped flag first: else it is told that the right one is missing."""
        known = self._option_string_actions
        for word in args or () if self._subparsers is None else ():
            flag = word.split("=")[0]
            if flag.startswith("--") and flag not in known:
                near = difflib.get_close_matches(flag, known, 1)
                self.error(f"there is no {flag}" + (f"; {near[0]} is meant?" if near else ""))
        return super().parse_known_args(args, namespace)


def main(argv: Sequence[str] | None = None) -> int:
    """Run a subcommand; returns 0, 1 for a mistake in files, 2 in flags, 130 for Ctrl-C."""
    words = list(sys.argv[1:] if argv is None else argv)
    try:
        args = _parser().parse_args(_two_dashes(words))
        return int(args.main(args))
    except SystemExit as end:  # --help, --version and wrong flags
        return int(end.code or 0)
    except Interrupted as error:
        return _say(str(error), 130)
    except RecaffeError as error:
        return _say(str(error), 1)
    except KeyboardInterrupt:
        return _say("stopped.", 130)
    except BrokenPipeError:  # `recaffe summary | head`
        sys.stderr.close()
        return 1
    except OSError as error:
        from recaffe.files import explain_os_error

        return _say(str(explain_os_error(error, error.filename or "a file")), 1)


def _say(message: str, status: int) -> int:
    print(f"recaffe: {message}", file=sys.stderr)
    return status


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="recaffe",
        description="Train, test and examine Caffe nets without Caffe.",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"recaffe {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND", parser_class=_Parser)
    for name in COMMANDS:
        module = import_module(f"recaffe.cli.{name.replace('-', '_')}")
        about = (module.__doc__ or "").strip().splitlines()[0]
        sub = commands.add_parser(
            name,
            help=about,
            description=module.__doc__,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        module.add_arguments(sub)
        sub.set_defaults(main=module.main)
    return parser


def _two_dashes(words: Sequence[str]) -> list[str]:
    """`-solver FILE` is `--solver FILE`: Caffe's gflags take one dash or two."""
    return [f"-{w}" if re.match(r"-[a-z][a-z_]", w) else w for w in words]
