"""Everything that was made, on one page and in one line; and what it was made from."""

import json
from pathlib import Path

from recaffe import provenance
from recaffe.evaluate import groups, pooled
from recaffe.files import write_text
from recaffe.report import build, collect
from recaffe.script import script

with script(snakemake.log[0]):
    settings = json.loads(snakemake.params.settings)
    results = Path(snakemake.output.report).parent
    facts = collect.collect(results, settings["config"], settings["weights"])
    groups.write(groups.table(settings["config"], facts["runs"]), results)
    # Of a cross validation that was here before.
    (results / pooled.FILE).unlink(missing_ok=True)
    write_text(snakemake.output.report, build.render(facts))
    write_text(snakemake.output.summary, f"{snakemake.output.report}\n{collect.headline(facts)}\n")
    provenance.write(results, settings["config"], settings["weights"])
