"""Jobs for an engine from the workflow's files, and the results back to where they belong."""

from __future__ import annotations

import hashlib
import json
import math
import shutil
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from recaffe.augment import Augment
from recaffe.engines.base import PredictJob, TrainJob, TrainResult
from recaffe.errors import WeightsError
from recaffe.files import sha256, write_aside, write_json
from recaffe.net.parse import read_net, to_solver
from recaffe.solver import weights as weights_of

# The settings of a run, beyond net and solver, that its last digits follow from.
NUMERICS = ("threads", "micro_batch", "precision", "channels_last", "compile", "deterministic")


def train_job(
    settings: dict[str, Any],
    *,
    net: Path,
    solver: Path,
    net_info: Path,
    records: tuple[Path, Path],
    weights: Sequence[Path],
    mean: Sequence[Path],
    snapshots: Path,
    title: str,
) -> TrainJob:
    """The job of one run; its folder of snapshots is named after all that defines its numbers.

    `records` are the notes beside the train and val LMDBs; `weights` and `mean` hold one file or
    none. Snapshots of another net, data or rate are in another folder, so never picked up.
    """
    run = settings["run"]
    train, val = (_json(p) for p in records)
    copy = tuple(_json(net_info)["copied"]) if weights else ()
    folder = snapshots / job_key(settings, net, solver, (train, val), [*weights, *mean], copy)
    return TrainJob(
        solver=solver,
        snapshots=folder,
        weights=weights[0] if weights else None,
        copy=copy,
        # The log and the table live beside the snapshots until the run is over: the workflow
        # removes a rule's outputs before it starts the rule again.
        final=folder / "final.caffemodel",
        log=folder / "train.log",
        csv=folder / "train.csv",
        select=run["select"],
        patience=run["patience"],
        threads=run["threads"],
        device=run["device"],
        devices=run["devices"],
        nodes=run["nodes"],
        micro_batch=run["micro_batch"],
        precision=run["precision"],
        channels_last=run["channels_last"],
        compile=run["compile"],
        deterministic=run["deterministic"],
        augment=Augment.of(run.get("augment")),
        title=title,
        # A closed terminal ends the workflow, so nobody would wait for the training.
        sighup_effect="stop",
        engine=run["engine"],
        iters_per_epoch=train["records"] / (run["batch_size"] * run["iter_size"]),
    )


def job_key(
    settings: dict[str, Any],
    net: Path,
    solver: Path,
    records: Sequence[dict[str, Any]],
    files: Sequence[Path],
    copy: Sequence[str],
) -> str:
    """16 hex digits of everything that the numbers of a run follow from.

    What a longer or differently watched run shares with a shorter one is left out: snapshots,
    display, patience, and `max_iter` unless the schedule scales with it (poly by itself; others by
    the stepsize that the config's `step_epochs: 0` makes of it). So are the places of files, whose
    contents count. And how many devices share a batch, unless BatchNorm makes of each share what
    it doesn't make of the whole.
    """
    plan = to_solver(solver.read_text(encoding="utf-8"), str(solver))
    for name in ("net", "snapshot", "snapshot_prefix", "display"):
        plan.ClearField(name)
    named = [Path(name) for name in weights_of(plan)]
    if plan.lr_policy != "poly":
        plan.ClearField("max_iter")
    layers = read_net(net)
    for layer in layers.layer:
        layer.data_param.ClearField("source")
        layer.transform_param.ClearField("mean_file")
    parts = {
        "stage": settings["stage"],
        "solver": str(plan),
        "net": hashlib.sha256(str(layers).encode()).hexdigest(),
        "records": [r["sha256"] for r in records],
        "files": [sha256(f) for f in [*files, *(n for n in named if n.is_file())]],
        "copy": list(copy),
        **{name: settings["run"][name] for name in NUMERICS},
    }
    if augment := Augment.of(settings["run"].get("augment")):
        parts["augment"] = augment.settings
    if settings["run"]["engine"] != "torch":
        parts["engine"] = settings["run"]["engine"]
    if any(x.type == "BatchNorm" for x in layers.layer):
        parts["devices"] = settings["run"]["devices"]
        if settings["run"]["nodes"] > 1:
            parts["nodes"] = settings["run"]["nodes"]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


def beginning(job: TrainJob) -> str:
    """What a training starts from, in words; "" for a run that has no snapshots yet."""
    assert job.snapshots is not None, "train_job"
    plan = to_solver(job.solver.read_text(encoding="utf-8"), str(job.solver))
    own = [int(p.stem.rpartition("_")[2]) for p in job.snapshots.glob("snap_iter_*.json")]
    if any(i <= plan.max_iter for i in own):
        return "goes on from its last snapshot: nothing has changed that its numbers follow from."
    if not own and not any(job.snapshots.parent.glob("*/snap_iter_*.json")):
        return ""
    said = "starts anew: its snapshots are of other data, nets, settings or a longer run."
    if plan.lr_policy in ("poly", "step", "sigmoid"):
        said += f" (lr_policy {plan.lr_policy} may scale with the number of iterations.)"
    return said


def publish(job: TrainJob, result: TrainResult, run: Path) -> None:
    """Copy what the job made to its run's folder, and say how it ended in train.json."""
    assert job.final is not None and job.csv is not None and job.log is not None, "train_job"
    for source in (job.final, job.csv, job.log):
        with write_aside(run / source.name) as aside:
            shutil.copyfile(source, aside)
    write_json(
        run / "train.json",
        {
            **asdict(result),
            "val_accuracy": None if math.isnan(result.val_accuracy) else result.val_accuracy,
            "sha256": sha256(job.final),
            "snapshots": str(job.snapshots),
        },
    )


def check_final(final: Path) -> None:
    """Raises `WeightsError` unless a run's weights are those that its training ended with."""
    note = final.with_name("train.json")
    try:
        right = sha256(final) == _json(note)["sha256"]
    except (OSError, ValueError, KeyError, TypeError):
        right = False
    if not right:
        raise WeightsError(
            f"{final} isn't what its training wrote ({note} has another digest). Remove it and run "
            "the same command again: training goes on from its last snapshot."
        )


def predict_job(
    run: dict[str, Any],
    *,
    deploy: Path,
    net_info: Path,
    weights: Path,
    lmdb: Path,
    mean: Sequence[Path],
) -> PredictJob:
    """The job of one pass over an LMDB with a run's own preprocessing."""
    return PredictJob(
        deploy=deploy,
        weights=weights,
        lmdb=lmdb,
        crop_size=run["crop_size"],
        scale=_json(net_info)["scale"],
        mean_file=mean[0] if mean else None,
        mean_values=tuple(run["mean"]) if isinstance(run["mean"], list) else (),
        batch_size=run["test_batch_size"],
        crops=run.get("test_crops", 1),
        threads=run["threads"],
        device=run["device"],
        engine=run["engine"],
    )


def _json(path: Path) -> dict[str, Any]:
    value: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return value
