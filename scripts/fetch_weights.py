"""A published caffemodel: fetched into the shared cache, checked, and copied from there."""

from pathlib import Path

from recaffe.files import write_json
from recaffe.script import script, tell
from recaffe.weights import fetch, form
from recaffe.weights.source import Source

with script(snakemake.log[0]):
    source = Source(**snakemake.params.source)
    file, note = fetch.get(source)
    done = form.install(file, Path(snakemake.output.weights))
    write_json(snakemake.output.note, fetch.record(source, note, done))
    tell(f"{snakemake.wildcards.source}: {source.file}, {done}")
    if not note.verified:
        tell(f"warning: {source.file} is unverified; its SHA-256 is {note.sha256}.")
