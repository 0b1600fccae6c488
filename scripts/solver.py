"""The config's schedule to a solver.prototxt."""

import json
from pathlib import Path

from recaffe import rate_range, solver
from recaffe.files import write_text
from recaffe.script import script

with script(snakemake.log[0]):
    run = json.loads(snakemake.params.settings)["run"]
    counts = [
        json.loads(Path(file).read_text(encoding="utf-8"))["records"]
        for file in (snakemake.input.train, snakemake.input.val)
    ]
    if run["base_lr"] == "auto":
        run["base_lr"] = rate_range.proposed(Path(snakemake.input.rate[0]))
    built = solver.build(run, snakemake.input.net, snakemake.params.prefix, *counts)
    write_text(snakemake.output[0], solver.to_text(built))
