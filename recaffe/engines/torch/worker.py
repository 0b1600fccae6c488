"""One process of a training: `torchrun … -m recaffe.engines.torch.worker job.json`.

job.json holds the fields of `TrainJob`; those that are left out have their defaults.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from recaffe.engines import jobfile
from recaffe.engines.torch import distributed
from recaffe.engines.torch.launch import PID, REPORTS
from recaffe.engines.torch.train import train
from recaffe.errors import ConfigError, Interrupted, RecaffeError


def main(argv: Sequence[str]) -> int:
    """Returns 0, 1 for a mistake or a failure, 130 for a stop; a defect is a traceback."""
    try:
        if len(argv) != 1:
            raise ConfigError("Give the path of one job.json.")
        try:
            text = Path(argv[0]).read_text(encoding="utf-8")
        except OSError as error:
            raise ConfigError(f"{argv[0]}: {error.strerror}.") from error
        if (report := _report()) is not None:
            report.with_suffix(PID).write_text(str(os.getpid()), encoding="ascii")
        result = train(jobfile.from_json(text))
        if (report := _report()) is not None:
            jobfile.write_result(report, result)
        return 0
    except RecaffeError as error:
        if not isinstance(error, Interrupted) or distributed.place().first:
            print(f"recaffe: {error}", file=sys.stderr, flush=True)
        if (report := _report()) is not None:
            jobfile.write_error(report, error)
        return 130 if isinstance(error, Interrupted) else 1
    except KeyboardInterrupt:  # a second Ctrl-C
        return 130


def _report() -> Path | None:
    """Where this process says how it ended, if anybody wants to know."""
    folder = os.environ.get(REPORTS)
    return Path(folder, f"rank{distributed.place().rank}.json") if folder else None


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
