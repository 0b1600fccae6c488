"""The patch stage: a published net and its weights → nets for these labels, and what carries over."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from recaffe import solver
from recaffe.errors import NetError
from recaffe.files import write_json, write_text
from recaffe.net import deploy, graph, parse, patch, shapes, summary, trainable, weights
from recaffe.net.upgrade.tree import upgrade_tree
from recaffe.proto import caffe_pb2 as pb


@dataclass(frozen=True)
class Prepared:
    """Texts of the two nets, net.json's content, the transfer table, and what to tell the user."""

    train_val: str
    deploy: str
    info: dict[str, Any]
    layers_csv: str
    headline: str
    warnings: list[str]

    def write(self, folder: Path) -> None:
        """train_val.prototxt, deploy.prototxt, net.json and layers.csv."""
        write_text(folder / "train_val.prototxt", self.train_val)
        write_text(folder / "deploy.prototxt", self.deploy)
        write_json(folder / "net.json", self.info)
        write_text(folder / "layers.csv", self.layers_csv)


def walk_train(
    net: pb.NetParameter, record: tuple[int, int, int], batch: int
) -> list[shapes.LayerShapes]:
    """Shapes of the TRAIN phase when its data layer gives `batch` records of C×H×W."""
    layers = graph.of_phase(net, pb.TRAIN)
    data = [x for x in layers if x.type in graph.DATA]
    tops = [t for x in data for t in x.top]
    # The first top holds pictures, the second labels.
    sizes: list[shapes.Shape] = [(batch, *record), *((batch,) for _ in tops[1:])]
    return shapes.walk(layers, dict(zip(tops, sizes, strict=True)))


def prepare(
    net_file: Path, data: Path, pretrained: Path | None, settings: dict[str, Any]
) -> Prepared:
    """Patch a net for the lists and LMDBs in folder `data`.

    `settings` holds `dataset`, `mean` (a mean file or "") and `run`, a row of the config's runs.
    Raises `NetError` or `WeightsError` where net, data and weights don't belong together.
    """
    run = settings["run"]
    labels = (data / "labels.txt").read_text(encoding="utf-8").splitlines()
    train, val = (_info(data / f"{s}_lmdb.json") for s in ("train", "val"))
    upgraded = upgrade_tree(parse.read_tree(net_file), str(net_file))
    tree = upgraded.tree
    done = trainable.make_trainable(tree, str(net_file), run["heads"])
    done += trainable.feed_both_phases(tree, str(net_file))
    trainable.name_losses(tree, str(net_file))
    patched = patch.patch(
        tree,
        patch.PatchSettings(
            suffix=settings["dataset"],
            classes=len(labels),
            train_source=str(data / "train_lmdb"),
            test_source=str(data / "val_lmdb"),
            train_batch=run["batch_size"],
            test_batch=solver.test_batch(val["records"], run["test_batch_size"]),
            crop_size=run["crop_size"],
            mirror=run["mirror"],
            mean_file=settings["mean"],
            mean_values=tuple(run["mean"]) if isinstance(run["mean"], list) else (),
            head_lr_mult=tuple(run["head_lr_mult"]) if pretrained else None,
            freeze_to=run["freeze_to"],
            heads=tuple(run["heads"]),
        ),
        str(net_file),
    )
    patched.warnings[:0] = [f"{net_file}: {sentence}." for sentence in upgraded.warnings]
    patched.warnings[:0] = [f"{sentence}." for sentence in done]
    channels, height, width = train["shape"]
    seen = (channels, run["crop_size"] or height, run["crop_size"] or width)
    walked = walk_train(parse.to_net(tree, str(net_file)), seen, run["batch_size"])
    rows = _transfer(walked, pretrained, patched.heads, run["unmatched"])
    counts = Counter(row.status for row in rows)
    listed = summary.summary(walked)
    return Prepared(
        train_val=tree.render(),
        deploy=deploy.deploy(tree, seen).render(),
        info={
            "heads": patched.heads,
            "frozen": patched.frozen,
            "warnings": patched.warnings,
            "copied": [row.layer for row in rows if row.status == "copied"],
            "input": list(seen),
            "scale": _scale(parse.to_net(tree)),
            "params": sum(row.params for row in listed),
            "macs": sum(row.macs for row in listed) // run["batch_size"],
            "training_bytes": summary.training_memory(walked),
            "layers": [asdict(row) for row in listed],
        },
        layers_csv=weights.table_csv(rows),
        headline=(
            f"{counts['copied']} layers copied, {counts['new']} new, {counts['ignored']} of the "
            f"weights' ignored, {len(patched.frozen)} frozen; {len(labels)} classes"
        ),
        warnings=patched.warnings,
    )


def _transfer(
    walked: list[shapes.LayerShapes],
    pretrained: Path | None,
    heads: dict[str, str],
    unmatched: list[str],
) -> list[weights.Transfer]:
    if pretrained is None:
        return weights.transfer_table(walked, {}, heads)
    rows = weights.transfer_table(
        walked, weights.read(pretrained, [s.layer for s in walked]), heads
    )
    weights.check_transfer(rows, pretrained, unmatched)
    if not any(row.status == "copied" for row in rows):
        raise NetError(
            f"No layer of {pretrained} has a namesake in the net; nothing would be copied."
        )
    return rows


def _scale(net: pb.NetParameter) -> float:
    """What the TEST data layer multiplies pixels by; a deploy net can't say it."""
    return next(x for x in graph.of_phase(net, pb.TEST) if x.type == "Data").transform_param.scale


def _info(path: Path) -> dict[str, Any]:
    info: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return info
