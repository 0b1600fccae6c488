"""The folds of a cross validation as one test, on one page and in one line."""

import json
from pathlib import Path

from recaffe.report import crossval
from recaffe.script import script

with script(snakemake.log[0]):
    settings = json.loads(snakemake.params.settings)
    crossval.write(Path(snakemake.output.report).parent, settings["config"], settings["folds"])
