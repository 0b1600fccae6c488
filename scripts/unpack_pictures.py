"""Unpack the pictures of a package and their table of labels."""

from pathlib import Path

from recaffe.packages.sets import SETS
from recaffe.script import script

with script(snakemake.log[0]):
    count = SETS[snakemake.params.set].unpack(Path(snakemake.input[0]), Path(snakemake.output[0]))
    print(f"{count} pictures")
