"""List a package's pictures. A user's own are listed before the DAG is decided."""

import json
from pathlib import Path

from recaffe.images import inventory
from recaffe.script import script

with script(snakemake.log[0]):
    images = json.loads(snakemake.params.settings)["images"]
    out = Path(snakemake.output[0])
    print(inventory.take(images, out, out.with_name(".inventory_cache.csv")))
