"""A small workflow with a view, whose jobs go on until they are told to end."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from recaffe.config import ROOT
from tests.terminal import Terminal

SNAKEFILE = f"""
import os, sys
sys.path.insert(0, {str(ROOT)!r})
os.environ["PYTHONPATH"] = {str(ROOT)!r}
from recaffe import live
WANTED = str(config.pop("live", True)).lower() != "false"
if workflow.is_main_process:
    live.begin(workflow, "pets", WANTED)
rule all:
    input: expand("{{name}}.txt", name=config.get("names", "one two").split())
rule make:
    output: "{{name}}.txt"
    log: "logs/{{name}}.log"
    params: ends=config.get("ends", "well")
    script: "make.py"
onsuccess:
    print("All of it is there.")
"""

# 30 of 100 pictures, and then no more until there is a file `go`.
MAKE = """
import sys
import time
from pathlib import Path
from recaffe.errors import DataError
from recaffe.progress import bar, line, progress
from recaffe.script import script, tell

with script(snakemake.log[0]):
    tell(f"{snakemake.wildcards.name} has begun.")
    line("So far it goes well.")
    def pictures():
        for number in range(100):
            while number == 30 and not Path("go").exists():
                time.sleep(0.05)
                from recaffe import stop
                stop.look_up()
            yield number
    for _ in progress(pictures(), 100, "make", "img"):
        pass
    if snakemake.params.ends != "well":
        raise DataError("The picture " + "x" * 150 + " can't be read.")
    with bar(10, "train", "it", initial=10) as shown:
        shown.say(loss=0.25, val_accuracy=0.5)
    Path(snakemake.output[0]).write_text("done")
"""


def command(*options: str) -> list[str]:
    return [
        sys.executable, "-m", "snakemake", "--cores", "2", "--snakefile", "Snakefile", *options,
    ]  # fmt: skip


@contextmanager
def running(folder: Path, *options: str, **how: object) -> Iterator[Terminal]:
    """The workflow on a terminal."""
    write(folder)
    terminal = Terminal(command(*options), folder, **how)  # type: ignore[arg-type]
    try:
        yield terminal
    finally:
        (folder / "go").touch()
        terminal.close()


def write(folder: Path) -> None:
    (folder / "Snakefile").write_text(SNAKEFILE, encoding="utf-8")
    (folder / "make.py").write_text(MAKE, encoding="utf-8")
