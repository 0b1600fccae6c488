"""Manifest to lists and label map."""

import json
from pathlib import Path

from recaffe.images import split
from recaffe.script import script, tell

with script(snakemake.log[0]):
    made = split.write(
        Path(snakemake.input.manifest),
        Path(snakemake.input.inventory),
        Path(snakemake.params.rejected),
        Path(snakemake.output.labels).parent,
        json.loads(snakemake.params.settings),
    )
    for warning in made.warnings:
        tell(f"warning: {warning}")
