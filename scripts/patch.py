"""A published net to a net for these labels; the table of copied and new layers."""

import json
from pathlib import Path

from recaffe.net import prepare
from recaffe.script import script, tell

with script(snakemake.log[0]):
    made = prepare.prepare(
        Path(snakemake.input.net),
        Path(snakemake.input.labels).parent,
        Path(snakemake.input.weights[0]) if snakemake.input.weights else None,
        json.loads(snakemake.params.settings),
    )
    made.write(Path(snakemake.output.train_val).parent)
    tell(f"{snakemake.wildcards.run}: {made.headline}")
    print(made.layers_csv)
    for warning in made.warnings:
        tell(f"warning: {warning}")
