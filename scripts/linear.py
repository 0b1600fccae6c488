"""The linear classifier on the pretrained net's frozen features."""

import json
from pathlib import Path

from recaffe import config
from recaffe.engines import jobs, pick
from recaffe.evaluate import linear
from recaffe.files import write_json
from recaffe.lmdb import read
from recaffe.script import script

with script(snakemake.log[0]):
    train, val, test = map(Path, snakemake.input.lmdbs)
    for lmdb in (train, val, test):
        read.check(lmdb)
    job = jobs.predict_job(
        json.loads(snakemake.params.settings)["run"],
        deploy=Path(snakemake.input.deploy),
        net_info=Path(snakemake.input.info),
        weights=Path(snakemake.input.weights[0]),
        lmdb=train,
        mean=[Path(p) for p in snakemake.input.mean],
    )
    run = config.complete(snakemake.config)["runs"][snakemake.wildcards.run]
    job = pick.on_host(job, run["runtime"])
    write_json(snakemake.output[0], linear.fit(job, train, val, test))
