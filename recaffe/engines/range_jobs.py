"""The lr range test of a run, from the workflow's settings and files; always on the built-in engine.

The caffe engine has no loss of single iterations to stop at, and computes the same to about 1e-5.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from recaffe import rate_range, solver
from recaffe.augment import Augment
from recaffe.engines.base import TrainJob
from recaffe.files import write_json, write_text
from recaffe.proto import caffe_pb2 as pb
from recaffe.script import tell

# What `solver.build` wants to know and the test doesn't: its schedule is its own.
_SCHEDULE = {
    "epochs": 1, "lr_policy": "fixed", "step_epochs": 0, "multistep_epochs": [], "gamma": 1,
    "power": 1, "average_loss": 1, "test_batch_size": 1, "test_interval_epochs": 1,
    "snapshot_epochs": 1,
}  # fmt: skip


def run(
    settings: dict[str, Any],
    *,
    net: Path,
    net_info: Path,
    weights: Sequence[Path],
    title: str,
    folder: Path,
) -> None:
    """Test the rates of one run; writes lr_range.csv and lr_range.json into `folder`.

    `settings` are those of `LR_RANGE_KEYS` in rules/keys.smk; `weights` holds one file or none.
    """
    span = rate_range.Span(
        settings["lr_range_min"], settings["lr_range_max"], settings["lr_range_iters"]
    )
    p = rate_range.plan(_solver(settings, net, span), span)
    job = TrainJob(
        solver=net,  # not read: `p` is the solver
        weights=weights[0] if weights else None,
        copy=tuple(json.loads(net_info.read_text(encoding="utf-8"))["copied"]) if weights else (),
        threads=settings["threads"],
        device=settings["device"],
        micro_batch=_parts(settings),
        precision=settings["precision"],
        channels_last=settings["channels_last"],
        deterministic=settings["deterministic"],
        augment=Augment.of(settings.get("augment")),
        title=title,
    )
    tell_of(write(folder / "lr_range", job, p, span), title)


def write(
    stem: Path, job: TrainJob, p: pb.SolverParameter, span: rate_range.Span
) -> dict[str, Any]:
    """Do the test; writes its curve to STEM.csv and what it says to STEM.json, and returns the latter."""
    from recaffe.engines.torch.rate_range import measure

    curve = measure(job, p)
    found = rate_range.propose(curve.rates, curve.losses, span)
    note = rate_range.note(found, span, len(curve.losses), curve.device, p.random_seed)
    write_text(
        stem.with_name(f"{stem.name}.csv"), rate_range.table(curve.rates, curve.losses, span)
    )
    write_json(stem.with_name(f"{stem.name}.json"), note)
    return note


def tell_of(note: dict[str, Any], title: str) -> None:
    """Say what came out."""
    if note["base_lr"] is not None:
        tell(f"{title}: base_lr {note['base_lr']:g} is proposed (docs/learning-rate.md)")
    if note["said"]:
        tell(f"{title}: {note['said']}")


def _solver(settings: dict[str, Any], net: Path, span: rate_range.Span) -> pb.SolverParameter:
    row = {**settings, **_SCHEDULE, "base_lr": span.least, "max_iter": span.iterations}
    return solver.build(row, str(net), "", 1, 1)


def _parts(settings: dict[str, Any]) -> int | str:
    """Pictures at once on the one device: what several of them would each have."""
    if settings["micro_batch"]:
        return settings["micro_batch"]
    if settings["devices"] == "auto":
        return "auto"
    shared = settings["devices"] * settings["nodes"]
    return settings["batch_size"] // shared if shared > 1 else 0
