"""The sum of one shard's records."""

from recaffe import mean
from recaffe.lmdb import read
from recaffe.script import script

with script(snakemake.log[0]):
    read.check(snakemake.input[0])
    mean.write_sums(mean.sums(snakemake.input[0]), snakemake.output[0])
