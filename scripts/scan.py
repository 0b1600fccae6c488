"""Decode every picture; name what can't be used."""

import json
from pathlib import Path

from recaffe.images.scan import scan
from recaffe.script import script

with script(snakemake.log[0]):
    settings = json.loads(snakemake.params.settings)
    counts = scan(
        Path(snakemake.input.inventory),
        Path(snakemake.output.manifest),
        Path(snakemake.params.rejected),
        settings["scan"],
        snakemake.threads,
        snakemake.params.lmdb,
    )
    print(counts)
