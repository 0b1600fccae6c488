"""Fetch one package whose SHA-256 is known."""

from pathlib import Path

from recaffe.packages.fetch import fetch
from recaffe.packages.sets import SETS
from recaffe.script import script

with script(snakemake.log[0]):
    package, version, digest = snakemake.params.package
    # Pictures may come from another registry than weights do.
    ways = {pictures.PACKAGE: pictures.fetch for pictures in SETS.values()}
    ways.get(package, fetch)(package, version, digest, Path(snakemake.output[0]))
