"""Where the net looked in a few of the test pictures."""

import json
from pathlib import Path

from recaffe.engines import jobs
from recaffe.evaluate import answers
from recaffe.files import write_json
from recaffe.lmdb import read
from recaffe.lmdb.write import read_list
from recaffe.report import heat_maps
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
    made = heat_maps.make(
        job,
        read_list(snakemake.input.list, settings["seed"]),
        answers.read(Path(snakemake.input.predictions)),
        Path(snakemake.input.labels).read_text(encoding="utf-8").splitlines(),
        settings["report"]["heat_maps"],
    )
    write_json(snakemake.output[0], made)
