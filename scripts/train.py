"""Train one run, or go on where it was stopped."""

import json
from pathlib import Path

from recaffe import config, track
from recaffe.engines import jobs, pick
from recaffe.lmdb import read
from recaffe.script import script, tell

with script(snakemake.log[0]):
    paths = {
        name: Path(value)
        for name, value in (*snakemake.input.items(), *snakemake.output.items())
        if isinstance(value, str)
    }
    for split in ("train", "val"):
        read.check(paths[split])
    job = jobs.train_job(
        json.loads(snakemake.params.settings),
        net=paths["net"],
        solver=paths["solver"],
        net_info=paths["info"],
        records=(paths["train_info"], paths["val_info"]),
        weights=[Path(p) for p in snakemake.input.weights],
        mean=[Path(p) for p in snakemake.input.mean],
        snapshots=Path(snakemake.params.snapshots),
        title=f"train {' '.join(snakemake.wildcards)}",  # in a cross validation the fold, too
    )
    if said := jobs.beginning(job):
        tell(f"{job.title} {said}")
    # Not among the params: where it runs and is followed changes no number, so it must not train again.
    whole, name = config.complete(snakemake.config), snakemake.wildcards.run
    folder = Path(snakemake.output.weights).parent
    with track.following(job, name, whole, folder):
        result = pick.train_where(job, whole["runs"][name], snakemake.resources, snakemake.threads)
        jobs.publish(job, result, folder)
