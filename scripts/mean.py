"""Training LMDB, or the sums of its shards, to mean.binaryproto."""

from pathlib import Path

from recaffe import mean
from recaffe.lmdb import totals
from recaffe.script import script

with script(snakemake.log[0]):
    source = Path(snakemake.input[0])
    if source.suffix == ".npz":
        parts = map(mean.read_sums, snakemake.input)
    else:
        parts = [totals.total_of(source, Path(snakemake.params.store))]
    mean.write(mean.combine(parts, source), snakemake.output[0])
