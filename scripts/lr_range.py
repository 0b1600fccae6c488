"""A few iterations at growing rates; the curve and the rate that it proposes."""

import json
from pathlib import Path

from recaffe.engines import range_jobs
from recaffe.lmdb import read
from recaffe.script import script

with script(snakemake.log[0]):
    read.check(snakemake.input.train)
    range_jobs.run(
        json.loads(snakemake.params.settings)["run"],
        net=Path(snakemake.input.net),
        net_info=Path(snakemake.input.info),
        weights=[Path(p) for p in snakemake.input.weights],
        title=f"lr range {snakemake.wildcards.run}",
        folder=Path(snakemake.output.note).parent,
    )
