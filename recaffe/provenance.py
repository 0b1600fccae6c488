"""What a model was made from, step by step, down to the digest of every byte that went in.

RUN/provenance.json is the chain: pictures, manifest, lists, LMDBs, mean, nets, solver, weights,
predictions, metrics; with the config, the versions and the commit. It holds no times, so two equal
builds have equal chains. SHA256SUMS, in the form of `sha256sum`, names all files of a data set's
folder but the LMDBs, whose notes hold the digest of their records.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from recaffe import config as configs
from recaffe import image, model, rate_range, stages
from recaffe.augment import Augment
from recaffe.engines import jobs
from recaffe.errors import DataError
from recaffe.files import sha256, write_json, write_text
from recaffe.images import inventory
from recaffe.images.inventory import SPLITS
from recaffe.packages.sets import SETS
from recaffe.weights import source

PACKAGES = (
    "snakemake", "torch", "numpy", "opencv-python-headless", "pillow", "simplejpeg", "lmdb", "protobuf",
)  # fmt: skip
COMMIT = "RECAFFE_COMMIT"
SUMS, CHAIN = "SHA256SUMS", "provenance.json"
DATA_FILES = (
    "inventory.csv", "classes.txt", "manifest.csv", "rejected.csv",
    *(f"{split}.txt" for split in SPLITS), "labels.txt", "classes.csv", "duplicates.csv",
    "lists.json", *(f"{split}_lmdb.json" for split in SPLITS), "mean.binaryproto",
)  # fmt: skip
RUN_FILES = (
    "train_val.prototxt", "deploy.prototxt", "net.json", "layers.csv", "solver.prototxt",
    "final.caffemodel", "train.csv", "train.log", "train.json", "predictions.csv", "metrics.json",
    *(f"model/{name}" for name in model.FILES),
)  # fmt: skip
PAGES = ("report.html", "summary.txt", "runs.csv", "groups.csv")


def write(results: Path, config: dict[str, Any], weights: Mapping[str, Sequence[str]]) -> None:
    """Write each run's chain and the sums of all files; the report stands already.

    `weights` gives each run's pretrained file or none. Raises `DataError` where a run's files are
    no longer those that it was trained from.
    """
    for run in config["runs"]:
        write_json(results / run / CHAIN, _provenance(results, run, config, list(weights[run])))
    names = [f"data/{name}" for name in DATA_FILES]
    for run in config["runs"]:
        own = [*RUN_FILES, CHAIN]
        if config["baselines"]["linear"] and (results / run / "linear.json").is_file():
            own.append("linear.json")
        looked = config["report"]["heat_maps"] and run == next(iter(config["runs"]))
        if looked and (results / run / "heat_maps.json").is_file():
            own.append("heat_maps.json")
        if rate_range.is_wanted(config["runs"][run]):
            own += rate_range.FILES
        names += [f"{run}/{name}" for name in own]
    write_sums(results, [*names, *PAGES])


def write_sums(folder: Path, names: Sequence[str]) -> None:
    """Write SHA256SUMS of these files of a folder."""
    body = "".join(f"{sha256(folder / name)}  {name}\n" for name in names)
    write_text(folder / SUMS, f"{body}{own_sum(body)}\n")


def own_sum(body: str) -> str:
    """The last line of SHA256SUMS, a comment to `sha256sum`: the digest of the lines before."""
    return f"# {hashlib.sha256(body.encode()).hexdigest()}"


def versions() -> dict[str, str]:
    """Versions of what computes, and where."""
    return {
        "recaffe": f"{version('recaffe')}, commit {commit()}",
        **{name: version(name) for name in PACKAGES},
        "python": platform.python_version(),
        "machine": f"{platform.machine()}, {platform.system()}",
        **({"image": found} if (found := image.name()) else {}),
    }


def _provenance(
    results: Path, run: str, config: dict[str, Any], weights: list[str]
) -> dict[str, Any]:
    row = config["runs"][run]
    mean = ["data/mean.binaryproto"] if row["mean"] == "file" else []
    _check_trained(results, run, row, [*map(Path, weights), *(results / m for m in mean)])
    files: list[dict[str, Any]] = []
    for name, made_from in _steps(run, row, config, weights, mean):
        files.append({"file": name, "sha256": digest_of(results, name), "from": made_from})
    return {
        "run": run,
        "pictures": {
            "listed in": "data/inventory.csv",
            "count": len(inventory.read(results / "data" / "inventory.csv")),
        },
        "inputs": list(_inputs(row, config, weights)),
        "files": files,
        "augment": Augment.of(row["augment"]).settings,
        "test_crops": row["test_crops"],
        "versions": versions(),
        "device": json.loads((results / run / "train.json").read_text("utf-8"))["device"],
        "config": config,
    }


def _steps(
    run: str, row: dict[str, Any], config: dict[str, Any], weights: list[str], mean: list[str]
) -> Iterator[tuple[str, list[str]]]:
    """(file, what it was made from) in the order of the workflow."""
    given = [i.get("file") or i["package"] for i in _picture_inputs(config)]
    yield "data/inventory.csv", [*given, "pictures"]
    yield "data/classes.txt", [*given, "pictures"]
    yield "data/manifest.csv", ["data/inventory.csv", "pictures"]
    listed = ["data/manifest.csv", "data/inventory.csv", "data/classes.txt"]
    for name in (*(f"{split}.txt" for split in SPLITS), "labels.txt", "lists.json"):
        yield f"data/{name}", listed
    for split in SPLITS:
        yield f"data/{split}_lmdb", [f"data/{split}.txt", "data/lists.json", "data/manifest.csv"]
    if mean:
        yield mean[0], ["data/train_lmdb"]
    lmdbs = ["data/train_lmdb", "data/val_lmdb"]
    net = _net(row)
    for name in ("train_val.prototxt", "deploy.prototxt", "net.json"):
        yield f"{run}/{name}", [net, "data/labels.txt", *lmdbs, *weights]
    auto = [f"{run}/lr_range.json"] if row["base_lr"] == "auto" else []
    if auto:
        yield auto[0], [f"{run}/train_val.prototxt", f"{run}/net.json", lmdbs[0], *weights, *mean]
    yield f"{run}/solver.prototxt", [f"{run}/train_val.prototxt", *lmdbs, *auto]
    trained = [f"{run}/{n}" for n in ("train_val.prototxt", "solver.prototxt", "net.json")]
    yield f"{run}/final.caffemodel", [*trained, *lmdbs, *weights, *mean]
    tested = [f"{run}/{n}" for n in ("final.caffemodel", "deploy.prototxt", "net.json")]
    yield f"{run}/predictions.csv", [*tested, "data/test_lmdb", "data/test.txt", "data/labels.txt", *mean]  # fmt: skip
    yield f"{run}/metrics.json", [f"{run}/predictions.csv"]


def _inputs(
    row: dict[str, Any], config: dict[str, Any], weights: list[str]
) -> Iterator[dict[str, Any]]:
    """What came from outside of the results, the pictures aside."""
    yield from _picture_inputs(config)
    net = _net(row)
    yield {"file": net, "sha256": sha256(net)}
    if source.of_run(row):
        yield _json(Path(weights[0]).with_suffix(".json"))
    elif row["weights"] == "zoo":
        card = configs.model_card(row["net"])["weights"]
        yield {"package": f"{card['package']} {card['version']}", "sha256": card["sha256"]}
    for file in weights:
        yield {"file": file, "sha256": sha256(file)}


def _net(row: dict[str, Any]) -> str:
    return os.path.relpath(configs.net_file(row["net"]))


def _picture_inputs(config: dict[str, Any]) -> list[dict[str, str]]:
    images = config["images"]
    if images["package"]:
        found = SETS[images["package"]]
        return [{"package": f"{found.PACKAGE} {found.VERSION}", "sha256": found.SHA256}]
    named = [images.get("path"), images.get("label_names")]
    named += [images[split]["list"] for split in SPLITS if images.get(split)]
    return [{"file": n, "sha256": sha256(n)} for n in named if n and Path(n).is_file()]


def digest_of(results: Path, name: str) -> str:
    """Of a file's bytes; of an LMDB's records, as noted when it was written."""
    if not name.endswith("_lmdb"):
        return sha256(results / name)
    note = json.loads((results / f"{name}.json").read_text(encoding="utf-8"))
    return str(note["sha256"])


def _check_trained(results: Path, run: str, row: dict[str, Any], files: list[Path]) -> None:
    """The folder of snapshots is named after all that a run's numbers follow from."""
    folder = results / run
    result = _json(folder / "train.json")
    copied = tuple(_json(folder / "net.json")["copied"]) if row["weights"] != "none" else ()
    key = jobs.job_key(
        {"stage": stages.TRAIN, "run": row},
        folder / "train_val.prototxt",
        folder / "solver.prototxt",
        [_json(results / "data" / f"{split}_lmdb.json") for split in ("train", "val")],
        files,
        copied,
    )
    if Path(result["snapshots"]).name != key:
        raise DataError(
            f"{folder / 'final.caffemodel'} was trained from other files than those that stand there "
            "now: net, solver, LMDBs, mean or weights have changed since. Remove it and run the same "
            "command again."
        )
    if sha256(folder / "final.caffemodel") != result["sha256"]:
        raise DataError(
            f"{folder / 'final.caffemodel'} isn't what its training wrote. Remove it and run the same "
            "command again: training goes on from its last snapshot."
        )


def _json(path: Path) -> dict[str, Any]:
    value: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return value


def commit() -> str:
    """The clone's commit; COMMIT says it where there is no git, as in an image."""
    if known := os.environ.get(COMMIT):
        return known
    command = [
        "git", "-C", str(configs.ROOT), "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*",
    ]  # fmt: skip
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown (not a git checkout)"
