"""One list to one LMDB, with a note of what is in it."""

import json
from pathlib import Path

from recaffe.files import write_json
from recaffe.lmdb import read, write
from recaffe.script import script

with script(snakemake.log[0]):
    settings = json.loads(snakemake.params.settings)
    out = Path(snakemake.output.lmdb)
    root = json.loads(Path(snakemake.input.lists).read_text(encoding="utf-8"))["root"]
    write.write(
        Path(snakemake.input.list), root, out, settings, settings["seed"], snakemake.threads
    )
    write_json(snakemake.output.info, read.describe(out))
