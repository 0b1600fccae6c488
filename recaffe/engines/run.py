"""One training from a file, as a container does it: `python -m recaffe.engines.run JOB.json RESULT.json`.

JOB.json holds the fields of `TrainJob` (see `jobfile`), with absolute paths; RESULT.json gets the
`TrainResult`, or the error.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from recaffe import stop
from recaffe.engines import jobfile, pick
from recaffe.errors import ConfigError, Interrupted, MachineError, RecaffeError, is_out_of_memory
from recaffe.files import explain_os_error


def main(argv: Sequence[str]) -> int:
    """Returns 0, 1 for a mistake or a failure, 130 for a stop; a defect is a traceback."""
    if len(argv) != 2:
        print("recaffe: Give two paths: JOB.json RESULT.json.", file=sys.stderr)
        return 1
    stop.listen_early()
    job, result = map(Path, argv)
    try:
        result.unlink(missing_ok=True)
        jobfile.write_result(result, pick.train(_read(job)))
        return 0
    except KeyboardInterrupt:
        error: RecaffeError = Interrupted(stop.MESSAGE)
    except RecaffeError as mistake:
        error = mistake
    except OSError as failure:
        error = explain_os_error(failure, failure.filename or result)
    except Exception as failure:
        if not is_out_of_memory(failure):
            raise
        error = MachineError(f"Not enough memory: {failure}")
    print(f"recaffe: {error}", file=sys.stderr, flush=True)
    jobfile.write_error(result, error)
    return 130 if isinstance(error, Interrupted) else 1


def _read(path: Path) -> jobfile.TrainJob:
    try:
        return jobfile.from_json(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}.") from error
    except ValueError as error:
        raise ConfigError(f"{path} holds no job: {error}.") from error


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
