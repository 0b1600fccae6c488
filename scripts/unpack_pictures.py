"""Unpack the pictures of a package and their table of labels."""

from pathlib import Path

from recaffe.packages import elpv
from recaffe.script import script

with script(snakemake.log[0]):
    count = elpv.unpack(Path(snakemake.input[0]), Path(snakemake.output[0]))
    print(f"{count} pictures")
