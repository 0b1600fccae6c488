"""Every test picture through the trained net, once."""

import json
from pathlib import Path

from recaffe import config
from recaffe.engines import jobs, pick
from recaffe.evaluate import predictions
from recaffe.lmdb import read
from recaffe.lmdb.write import read_list
from recaffe.script import script

with script(snakemake.log[0]):
    read.check(snakemake.input.lmdb)
    jobs.check_final(Path(snakemake.input.weights))
    settings = json.loads(snakemake.params.settings)
    job = jobs.predict_job(
        settings["run"],
        deploy=Path(snakemake.input.deploy),
        net_info=Path(snakemake.input.info),
        weights=Path(snakemake.input.weights),
        lmdb=Path(snakemake.input.lmdb),
        mean=[Path(p) for p in snakemake.input.mean],
    )
    run = config.complete(snakemake.config)["runs"][snakemake.wildcards.run]
    job = pick.on_host(job, run["runtime"])
    entries = read_list(snakemake.input.list, settings["seed"])
    labels = Path(snakemake.input.labels).read_text(encoding="utf-8").splitlines()
    table = predictions.tabulate(
        pick.predict(job, title=f"test {snakemake.wildcards.run}"), entries, labels
    )
    predictions.write(table, Path(snakemake.output[0]))
