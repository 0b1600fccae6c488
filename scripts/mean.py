"""Training LMDB, or the sums of its shards, to mean.binaryproto."""

from recaffe import mean
from recaffe.lmdb import read
from recaffe.script import script

with script(snakemake.log[0]):
    source = snakemake.input[0]
    if source.endswith(".npz"):
        found = mean.combine(map(mean.read_sums, snakemake.input), "train_lmdb")
    else:
        read.check(source)
        found = mean.compute(source)
    mean.write(found, snakemake.output[0])
