"""predictions.csv to metrics.json."""

from pathlib import Path

from recaffe.evaluate import metrics, predictions
from recaffe.files import write_json
from recaffe.script import script

with script(snakemake.log[0]):
    write_json(snakemake.output[0], metrics.compute(predictions.read(Path(snakemake.input[0]))))
