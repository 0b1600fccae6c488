"""The sum of one shard's records."""

from pathlib import Path

from recaffe import mean
from recaffe.lmdb import totals
from recaffe.script import script

with script(snakemake.log[0]):
    total = totals.total_of(Path(snakemake.input[0]), Path(snakemake.params.store))
    mean.write_sums(total, snakemake.output[0])
