"""A package's pickled arrays to a caffemodel."""

import json
from pathlib import Path

from recaffe.net.parse import read_net
from recaffe.net.prepare import walk_train
from recaffe.packages import pickled
from recaffe.script import script

with script(snakemake.log[0]):
    card = json.loads(snakemake.params.settings)["card"]
    net = read_net(snakemake.input.net)
    pickled.convert(
        Path(snakemake.input.package),
        card["file"],
        card["layout"],
        walk_train(net, (3, card["side"], card["side"]), 1),
        net.name,
        Path(snakemake.output[0]),
    )
