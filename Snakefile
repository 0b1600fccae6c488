# recaffe: pictures in, a fine-tuned caffemodel and an honest report out.
# The table of contents; each stage has its file in rules/.
import os
import sys

# This clone's library, here and in every job, whatever else is installed.
sys.path.insert(0, str(workflow.basedir))
os.environ.update(PYTHONPATH=str(workflow.basedir))

from recaffe import live, track, turns
from recaffe.images import decoded

# Also removes the locks that a killed Snakemake left here.
ALONE = workflow.is_main_process and turns.begin()

if not workflow.config_settings.configfiles:

    configfile: "config/config.yaml"


# `--config live=false`: lines instead of the view that a terminal gets.
LIVE = str(config.pop("live", True)).lower() != "false"


include: "rules/common.smk"
include: "rules/keys.smk"
include: "rules/container.smk"
include: "rules/images.smk"
include: "rules/lmdb.smk"
include: "rules/mean.smk"
include: "rules/net.smk"
include: "rules/train.smk"
include: "rules/evaluate.smk"
include: "rules/model.smk"
include: "rules/report.smk"


if FOLDS:

    include: "rules/folds.smk"


if workflow.is_main_process:
    if not workflow.deployment_settings.deployment_method:
        checked(track.needed, RUNS)
    live.begin(workflow, CONFIG["dataset"], LIVE)


# Small enough for the machine that Snakemake itself runs on, or in need of a network, when the others
# are sent to a cluster.
localrules:
    all,
    fetch_package,
    convert_weights,
    fetch_weights,
    patch,
    solver,
    metrics,
    model,
    report,


rule all:
    default_target: True
    input:
        get_final_output(),


onsuccess:
    decoded.discard_if_there(*LEFT_BY_SCAN)
    # A run for another target than the report makes no summary.
    if Path(RESULTS, "summary.txt").is_file():
        print(Path(RESULTS, "summary.txt").read_text(encoding="utf-8"), end="")


onerror:
    decoded.discard_if_there(*LEFT_BY_SCAN)
