"""One list to one LMDB, with a note of what is in it."""

import json
from pathlib import Path

from recaffe.files import write_json
from recaffe.images.scan import read_manifest
from recaffe.lmdb.update import update
from recaffe.script import script

with script(snakemake.log[0]):
    settings = json.loads(snakemake.params.settings)
    lists = json.loads(Path(snakemake.input.lists).read_text(encoding="utf-8"))
    rows = read_manifest(Path(snakemake.input.manifest))
    note = update(
        Path(snakemake.input.list),
        lists["root"],
        Path(snakemake.output.lmdb),
        Path(snakemake.params.store),
        settings,
        settings["seed"],
        snakemake.threads,
        {str(Path(row["root"]) / row["path"]): row["sha256"] for row in rows},
    )
    write_json(snakemake.output.info, note)
