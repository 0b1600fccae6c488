"""The shards of one list as one LMDB."""

from pathlib import Path

from recaffe.files import write_json
from recaffe.lmdb import shards
from recaffe.script import script

with script(snakemake.log[0]):
    make = shards.merge if snakemake.params.merge else shards.join
    lmdbs, digests = (list(map(Path, snakemake.input[x])) for x in ("lmdbs", "digests"))
    write_json(snakemake.output.info, make(lmdbs, digests, Path(snakemake.output.lmdb)))
