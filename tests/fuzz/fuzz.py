"""Fuzz one parser with coverage to guide it: `python -m tests.fuzz.fuzz TARGET [libFuzzer's flags]`.

Wants atheris: pip install 'recaffe[fuzz]'. What it finds stays as crash-*, timeout-* or oom-* in
the working folder; give such a file as the last argument to see it again.
"""

from __future__ import annotations

import resource
import sys
import tempfile
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["recaffe", "PIL", "google.protobuf", "yaml", "h5py"]):
    from tests.fuzz import targets
    from tests.fuzz.seeds import seeds

SECONDS_AN_INPUT, ADDRESS_SPACE = 10, 8 << 30


def main() -> None:
    """Fuzz until -max_total_time or -runs is over, or something is found."""
    name, flags = sys.argv[1], sys.argv[2:]
    resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_SPACE, ADDRESS_SPACE))
    with tempfile.TemporaryDirectory() as folder:
        corpus = Path(folder)
        for i, seed in enumerate(seeds()[name]):
            (corpus / str(i)).write_bytes(seed)
        own = [] if any(Path(flag).is_file() for flag in flags) else [folder]
        limits = [f"-timeout={SECONDS_AN_INPUT}", "-rss_limit_mb=2048", "-max_len=131072"]
        atheris.Setup([sys.argv[0], *limits, *flags, *own], lambda data: targets.run(name, data))
        atheris.Fuzz()


if __name__ == "__main__":
    main()
