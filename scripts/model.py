"""A run's results to the folder that its user ships."""

import json
from pathlib import Path

from recaffe.model import build
from recaffe.script import script

with script(snakemake.log[0]):
    build.build(
        Path(snakemake.output[0]).parents[1],
        Path(snakemake.input.data[0]).parent,
        json.loads(snakemake.params.settings),
    )
