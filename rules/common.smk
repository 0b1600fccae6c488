# Helpers of the workflow: the checked config, paths, params. No rules here.
import json
import os
import sys
from dataclasses import asdict
from pathlib import Path

from recaffe import config as recaffe_config
from recaffe import (
    clock,
    digests,
    extras,
    folds,
    model,
    needs,
    rate_range,
    records,
    stages,
)
from recaffe.engines.caffe import find
from recaffe.errors import RecaffeError
from recaffe.images import decoded, inventory, record
from recaffe.lmdb import shards
from recaffe.packages.sets import SETS
from recaffe.weights import source
from snakemake.exceptions import WorkflowError
from snakemake.settings.types import DeploymentMethod

# The image that rules run in with --use-singularity, and the environment of the same versions. Another
# image: `--config container=FILE`.
CONTAINER = str(config.pop("container", "")) or os.path.relpath(
    Path(workflow.basedir, "docker", "recaffe-cpu.sif")
)
CONDA = "../envs/tools.yaml"
# Whether rules run in the image.
IN_IMAGE = DeploymentMethod.APPTAINER in workflow.deployment_settings.deployment_method


def checked(function, *args):
    """Call the library; a user's mistake is one message, not a traceback."""
    try:
        return function(*args)
    except RecaffeError as error:
        raise WorkflowError(str(error)) from None


# `--config deep_check=true` reads every file again, also where size and time say that nothing changed.
# Snakemake itself takes only `True` for a truth value.
DEEP = str(config.pop("deep_check", False)).lower()
if DEEP not in ("true", "false"):
    raise WorkflowError(f"deep_check is {DEEP!r}; allowed is true or false.")
DEEP = DEEP == "true"
CONFIG = checked(recaffe_config.complete, config)
RUNS = CONFIG["runs"]
RESULTS = f"{CONFIG['results']}/{CONFIG['dataset']}"
DATA = f"{RESULTS}/data"
# In cross validation each fold has in its folder what else the data set has in its own: lists, records, runs
# and report. Only the pictures are listed and scanned once for all, in DATA.
FOLDS = folds.names(CONFIG["split"]["folds"])
FOLD = f"{RESULTS}/{{fold}}" if FOLDS else RESULTS
FOLD_DATA = f"{FOLD}/data"
# What a rule's message calls a run.
RUN = "{wildcards.run} of {wildcards.fold}" if FOLDS else "{wildcards.run}"
# What Snakemake's own report calls the outputs of a fold and of a run.
OF_FOLD = {"fold": "{fold}"} if FOLDS else {}
OF_RUN = {**OF_FOLD, "run": "{run}"}
RESOURCES = CONFIG["resources"]
# What runs start from that was published as a file, by the name that it gets here.
SOURCES = {
    found.slug: found
    for run in RUNS.values()
    if (found := checked(source.of_run, run)) is not None
}
# Nets whose weights come from a package, by name.
CARDS = {
    run["net"]: recaffe_config.model_card(run["net"])["weights"]
    for run in RUNS.values()
    if run["weights"] == "zoo" and source.of_run(run) is None
}
# The package of the pictures themselves, or None.
PICTURE_SET = SETS.get(CONFIG["images"]["package"])
PACKAGES = {
    **{found.PACKAGE: (found.VERSION, found.SHA256) for found in SETS.values()},
    **{card["package"]: (card["version"], card["sha256"]) for card in CARDS.values()},
}


# How many jobs write each LMDB. Neither that nor where they write changes a record.
SHARDS = CONFIG["lmdb"]["shards"]
SCRATCH = CONFIG["lmdb"]["scratch"]


wildcard_constraints:
    fold="|".join(FOLDS),
    run="|".join(RUNS),
    shard="[0-9]+",
    split="train|val|test",
    package="|".join(PACKAGES),
    net="[A-Za-z0-9_.-]+",


def images():
    """The config's `images`; a package's pictures are a table once they are unpacked."""
    if CONFIG["images"]["package"]:
        folder = f"{RESOURCES}/{CONFIG['images']['package']}"
        return {**CONFIG["images"], "path": f"{folder}/pictures.csv", "root": folder}
    return CONFIG["images"]


def check_engines():
    """Real Caffe must be on this machine, unless the jobs or the trainings run in an image that has it."""
    if workflow.is_main_process and not IN_IMAGE:
        for run in RUNS.values():
            if run["engine"] == "caffe" and run["runtime"] == "host":
                checked(find.find)


def take_inventory():
    """Bring the inventory up to date before the DAG is decided, so that it knows what changed."""
    file = Path(DATA, "inventory.csv")
    if not workflow.is_main_process:
        return inventory.digest_of(file)
    # Beside another workflow it is only looked at: that one's jobs read the file.
    return checked(
        lambda: inventory.take(
            images(), file, Path(DATA, ".inventory_cache.csv"), deep=DEEP, keep=ALONE
        )
    )


check_engines()
if CONFIG["model"]["onnx"] and workflow.is_main_process and not IN_IMAGE:
    checked(extras.check, extras.ONNX, "model.onnx")

if ALONE:
    if moved := checked(clock.settle, (RESULTS, RESOURCES)):
        print(moved, file=sys.stderr)
    if moved := checked(
        records.settle,
        RESULTS,
        [f"{DATA}/manifest.csv", f"{RESULTS}/report.html"],
        f"{DATA}/inventory.csv",
    ):
        print(moved, file=sys.stderr)

# A package's pictures are known by the package's own digest.
PICTURES = PICTURE_SET.SHA256 if PICTURE_SET else take_inventory()
if FOLDS and workflow.is_main_process and not PICTURE_SET:
    checked(folds.check, Path(DATA, "inventory.csv"))


def as_param(stage, **settings):
    """Settings as one param: Snakemake compares params as a set and would miss two swapped values."""
    return json.dumps({"stage": stage, **settings}, sort_keys=True)


def in_passing(value):
    """A param that Snakemake doesn't compare: no result follows from it."""
    return lambda wildcards, output: value


# Settings of records, as the LMDB rules' param.
LMDB_SETTINGS = as_param(
    stages.LMDB,
    lmdb=model.record_settings(CONFIG["lmdb"]),
    scan=CONFIG["scan"],
    seed=CONFIG["split"]["seed"],
)


def filled(path, wildcards):
    """A path with the values of its wildcards, for a param: Snakemake fills inputs by itself."""
    return path.format(**wildcards)


def data_file(name):
    """A file of the data folder, which is a fold's own or that of all."""
    return f"{DATA if name in folds.SHARED else FOLD_DATA}/{name}"


def config_of(wildcards):
    """The config as the wildcards' fold sees it."""
    return folds.of_fold(CONFIG, wildcards.get("fold", ""))


def beside(name):
    """A file beside the rule's first output. Snakemake doesn't compare params that follow from outputs."""
    return lambda wildcards, output: str(Path(output[0]).with_name(name))


# The images that the scan leaves for the LMDBs, and the notes of those.
LEFT_BY_SCAN = (
    Path(DATA, decoded.FOLDER),
    expand(
        "{data}/{split}_lmdb.json",
        data=expand(FOLD_DATA, fold=FOLDS),
        split=inventory.SPLITS,
    ),
)


def shard_of(part, index):
    """What the files of a shard are named after; `part` and `index` may be wildcards."""
    return f"{FOLD_DATA}/shards/{shards.name(part, index, SHARDS)}"


def some(run, *keys):
    """These settings of a run; without those that came later and are off, so that what was made before they
    were known still stands."""
    return {
        key: RUNS[run][key]
        for key in keys
        if key not in OFF or RUNS[run][key] != OFF[key]
    }


def net_file(net):
    """The prototxt of a net, relative to where the workflow runs."""
    return os.path.relpath(recaffe_config.net_file(net))


def weights_of(run):
    """A run's pretrained weights as a rule's input: a list of one file, or empty."""
    choice = RUNS[run]["weights"]
    if found := source.of_run(RUNS[run]):
        return [f"{RESOURCES}/weights/published/{found.slug}.caffemodel"]
    if choice == "zoo":
        return [f"{RESOURCES}/weights/{RUNS[run]['net']}.caffemodel"]
    # Known by content (`digest`), not by time: a file that was moved here may be old.
    return [] if choice == "none" else [ancient(choice)]


def digest(file):
    """SHA-256 of a user's net or weights, or "": a param, since Snakemake sees newer files only."""
    return USER_FILES.get(os.path.abspath(file), "")


def take_user_files():
    """Digests of the runs' nets and own weights, by path."""
    files = {net_file(run["net"]) for run in RUNS.values()}
    files |= {
        run["weights"] for run in RUNS.values() if not source.is_url(run["weights"])
    } - {"zoo", "none"}
    files = sorted(map(os.path.abspath, files))
    cache = Path(DATA, ".files_cache.csv")
    alone = workflow.is_main_process and ALONE
    found = checked(lambda: digests.take(files, cache, deep=DEEP and alone, keep=alone))
    return {file: sha for file, (_, sha) in zip(files, found)}


USER_FILES = take_user_files()


def conda_of(run):
    """The environment of the rules that run a net."""
    return f"../envs/{RUNS[run]['engine']}.yaml"


def mean_of(run):
    """A run's mean file as a rule's input: a list of one file, or empty."""
    return [f"{FOLD_DATA}/mean.binaryproto"] if RUNS[run]["mean"] == "file" else []


def rate_of(run):
    """A run's tested rates as its solver's input: a list of one file, or empty."""
    auto = RUNS[run]["base_lr"] == "auto"
    return [f"{FOLD}/{{run}}/lr_range.json"] if auto else []


def devices_of(run):
    """Processes that train a run together on one machine; `auto` counts as one."""
    count = RUNS[run]["devices"]
    return count if isinstance(count, int) else 1


def cores_of(run):
    """CPU cores of a training: `threads` for each process that `devices` starts."""
    return RUNS[run]["threads"] * devices_of(run)


def gpus_of(run, count=1):
    """GPUs to ask a cluster for."""
    return 0 if RUNS[run]["device"] == "cpu" else count


def on_nodes(value):
    """A resource of a training on several nodes; None for one on one."""
    return lambda wildcards: (
        value(wildcards.run) if RUNS[wildcards.run]["nodes"] > 1 else None
    )


def nodes_of(run):
    """Machines that train a run together."""
    return RUNS[run]["nodes"]


def pictures_seen(run):
    """How many pictures a training sees, one as often as it does."""
    run = RUNS[run]
    if run["max_iter"]:
        return run["max_iter"] * run["batch_size"] * run["iter_size"]
    return run["epochs"] * pictures()


def pictures():
    """How many pictures there are, as far as that is known yet."""
    return needs.pictures(Path(DATA, "inventory.csv"))


def memory(megabytes, kilobytes=0):
    """A rule's `mem_mb`: a base and so much a picture, more for each attempt."""
    return lambda wildcards, attempt: needs.memory(
        megabytes, attempt, pictures(), kilobytes
    )


def minutes(base, seconds=0, jobs=1):
    """A rule's `runtime`: a base and so much a picture of its share, more for each attempt."""
    return lambda wildcards, attempt: needs.minutes(
        base, attempt, pictures() / jobs, seconds
    )


def many_threads(wildcards):
    """Threads of a rule that looks at each picture by itself."""
    return needs.threads(pictures())


def linear_baselines():
    """Runs that start from pretrained weights, one for each pair of net and weights."""
    seen = {}
    for run in RUNS if CONFIG["baselines"]["linear"] else ():
        if weights_of(run):
            seen.setdefault((RUNS[run]["net"], RUNS[run]["weights"]), run)
    return list(seen.values())


def runs_looked_at():
    """The run whose heat maps the report shows, if it shows any: the one that it is about."""
    return list(RUNS)[:1] if CONFIG["report"]["heat_maps"] else []


def shown(path, caption, category, **labels):
    """An output that `snakemake --report` shows, with the caption in captions/."""
    return report(
        path, caption=f"captions/{caption}.rst", category=category, labels=labels
    )


def get_final_output():
    """What `snakemake` without a target makes, and makes again where it is missing."""
    parts = [f"{RESULTS}/{fold}" for fold in FOLDS]
    return [
        *expand("{part}/{name}", part=[RESULTS, *parts], name=PAGES),
        *expand(
            "{part}/{run}/{name}", part=parts or [RESULTS], run=RUNS, name=FOR_THE_USER
        ),
    ]


PAGES = ("report.html", "summary.txt")
FOR_THE_USER = (
    "final.caffemodel",
    "deploy.prototxt",
    "predictions.csv",
    "metrics.json",
    *(f"model/{name}" for name in model.FILES),
    *([f"model/{model.ONNX}"] if CONFIG["model"]["onnx"] else []),
)


def versions():
    """The number of each stage's code."""
    return {name: n for name, n in vars(stages).items() if name.isupper()}
