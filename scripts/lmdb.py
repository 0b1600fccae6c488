"""One list, or a shard of it, to one LMDB, with a note of what is in it."""

import json
from pathlib import Path

from recaffe.files import write_json
from recaffe.images import decoded, scan
from recaffe.lmdb import shards
from recaffe.lmdb.update import update
from recaffe.script import script

with script(snakemake.log[0]):
    settings = json.loads(snakemake.params.settings)
    lists = json.loads(Path(snakemake.input.lists).read_text(encoding="utf-8"))
    shard = tuple(snakemake.params.shard)
    store = Path(snakemake.params.store)
    for folder in (store.parent, store.parent.with_name("shards")):
        shards.discard(folder, snakemake.wildcards.split, shard[1])
    note = update(
        Path(snakemake.input.list),
        lists["root"],
        Path(snakemake.output.lmdb),
        store,
        settings,
        settings["seed"],
        snakemake.threads,
        scan.contents(Path(snakemake.input.manifest)),
        shard,
        snakemake.params.scratch,
        Path(snakemake.input.manifest).with_name(decoded.FOLDER),
        add_up=snakemake.wildcards.split == "train",
    )
    write_json(snakemake.output.info, note)
    if shard[1] > 1:
        shards.write_digests(store, Path(snakemake.output.digests))
