"""Fetch one package whose SHA-256 is known."""

from pathlib import Path

from recaffe.packages.fetch import fetch
from recaffe.script import script

with script(snakemake.log[0]):
    package, version, digest = snakemake.params.package
    fetch(package, version, digest, Path(snakemake.output[0]))
