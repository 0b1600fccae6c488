"""The config's values for a set of pictures and a machine, each with its reason.

Thresholds are rules of thumb from fine-tuning practice, meant as a start that a person then changes.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from recaffe import config
from recaffe.images import split
from recaffe.images.inventory import SPLITS
from recaffe.init.machine import Machine
from recaffe.init.survey import Survey

_SEEDS = 10  # splits tried for one in which each class is everywhere
_MOST_TO_SPLIT = 20_000  # pictures, above which trying them takes too long
_FEW_TO_VALIDATE = 100  # of so few, the best of many validations is the luckiest
_STEPS = {True: 3000, False: 1200}  # updates that a fine-tuning is given, on a GPU or not
_EPOCHS = {True: (8, 60), False: (3, 30)}


@dataclass(frozen=True)
class Choice:
    """A key of the config, its value, and why."""

    section: str
    key: str
    value: Any
    why: str


def choose(survey: Survey, machine: Machine, background: Mapping[str, Any]) -> list[Choice]:
    """What the config says of split, lmdb and train, in its order. `background` is its `scan`."""
    shares, of_split = _split(survey, background)
    pictures = len(survey.items) - round(len(survey.items) * len(survey.bad) / survey.looked)
    train, val = (round(pictures * _share(survey, s, shares)) for s in ("train", "val"))
    net, why = _net(survey, machine, pictures)
    card = config.model_card(net)
    scratch = not {"weights", "published"} & set(card)
    return [
        *of_split,
        *_lmdb(survey, machine, card, pictures, scratch),
        Choice("train", "net", net, why),
        *_weights(net, scratch),
        *_length(card, machine, train, scratch),
        *_engine(machine),
        *_last(val),
    ]


def _share(survey: Survey, which: str, shares: Mapping[str, float]) -> float:
    if which in survey.given:
        return sum(item.split == which for item in survey.items) / len(survey.items)
    rest = {s: shares[s] for s in ("val", "test") if s not in survey.given}
    if which == "val":
        return rest["val"]
    given = sum(item.split in ("val", "test") for item in survey.items) / len(survey.items)
    return (1 - given) * (1 - sum(rest.values()))


def _split(survey: Survey, scan: Mapping[str, Any]) -> tuple[dict[str, Any], list[Choice]]:
    few = survey.smallest
    share = 0.15 if few >= 30 else 0.2 if few >= 15 else 0.25
    shares: dict[str, Any] = {"val": share, "test": share, "seed": 0}
    out = []
    for s, what in (("val", "chooses the best snapshot"), ("test", "is what the report is about")):
        if s in survey.given:
            out.append(Choice("split", s, share, "not used: the pictures name their own"))
        else:
            about = f"about {few * share:.0f} of the smallest class's {few:,} pictures"
            out.append(Choice("split", s, share, f"{what}; {about}"))
    seed, why = _seed(survey, shares, scan)
    shares["seed"] = seed
    out.append(Choice("split", "seed", seed, why))
    if survey.largest > scan["max_imbalance"] * survey.smallest:
        out.append(
            Choice(
                "split", "oversample", True,
                f"the largest class has {survey.largest / survey.smallest:.0f} times the smallest's pictures",
            )
        )  # fmt: skip
    return shares, out


def _seed(survey: Survey, shares: Mapping[str, Any], scan: Mapping[str, Any]) -> tuple[int, str]:
    """The first seed with which each class has a picture in each set, where that can be known."""
    other = "another number, another split"
    if not survey.complete or len(survey.rows) > _MOST_TO_SPLIT:
        return 0, other
    for seed in range(_SEEDS):
        found = split.assign(survey.rows, {**shares, "seed": seed}, scan["near_duplicates"], True)
        has = {(r["label"], p) for r, p in zip(survey.rows, found.place, strict=True)}
        if all((name, s) in has for name in survey.labels for s in SPLITS):
            first = "" if seed == 0 else "the first "
            return seed, f"{first}with which each class has pictures in all three sets"
    return 0, f"{other}; of the first {_SEEDS} none gives each class pictures in all three sets"


def _lmdb(
    survey: Survey, machine: Machine, card: Mapping[str, Any], pictures: int, scratch: bool
) -> Iterator[Choice]:
    side = card["resize"]
    crop = card["crop_size"]
    seen = f"{card['name']} sees {crop or side}×{crop or side}"
    yield Choice(
        "lmdb", "width", side, f"{seen}, cut from here at random in training" if crop else seen
    )
    yield Choice("lmdb", "height", side, "")
    yield Choice("lmdb", "mode", *_mode(survey))
    if scratch and all(row["grey"] for row in survey.rows):
        yield Choice("lmdb", "gray", True, "all pictures are grey, and the net starts from nothing")
    size = pictures * side * side * 3
    if size > machine.disk / 2:
        yield Choice(
            "lmdb", "encoded", "jpg",
            f"raw records would take {size / 1e9:,.0f} GB of the {machine.disk / 1e9:,.0f} GB that are free",
        )  # fmt: skip


def _mode(survey: Survey) -> tuple[str, str]:
    long = np.maximum(survey.numbers("width"), survey.numbers("height"))
    short = np.minimum(survey.numbers("width"), survey.numbers("height"))
    low, middle, high = np.percentile(long / short, (5, 50, 95))
    if high <= 1.25 or (high / low < 1.05 and high <= 1.5):
        return (
            "warp",
            f"stretches, as convert_imageset does; sides are alike here ({middle:.2f} : 1)",
        )
    if middle <= 1.8:
        return (
            "crop",
            f"keeps proportions ({middle:.2f} : 1 here) and cuts off the longer side's ends",
        )
    return "fill", f"pictures are long ({middle:.2f} : 1): padded, so that nothing is cut off"


def _net(survey: Survey, machine: Machine, pictures: int) -> tuple[str, str]:
    side = np.median(np.maximum(survey.numbers("width"), survey.numbers("height")))
    many = pictures >= 5000 and survey.smallest >= 100
    if side <= 40 and many:
        grey = all(row["grey"] for row in survey.rows)
        what = f"{pictures:,} small {'grey ' if grey else ''}pictures ({side:.0f} pixels)"
        return ("lenet" if grey else "quick"), f"{what} train a small net from nothing"
    if not machine.on_gpu:
        return (
            "squeezenet_v1.1",
            "the fastest with published weights: this machine trains on its CPU",
        )
    if many:
        return "resnet50", f"{pictures:,} pictures and a GPU can tune a large net"
    return (
        "googlenet",
        f"{pictures:,} pictures are few for a larger net; a GPU trains this in minutes",
    )


def _weights(net: str, scratch: bool) -> Iterator[Choice]:
    if scratch:
        yield Choice("train", "weights", "none", "this net is trained from its fillers")
    else:
        why = f"ImageNet's, fetched for you; `recaffe weights fetch {net}` does so beforehand"
        if net == "squeezenet_v1.1":
            why = "ImageNet's, fetched for you"
        yield Choice("train", "weights", "zoo", why)


def _length(
    card: Mapping[str, Any], machine: Machine, train: int, scratch: bool
) -> Iterator[Choice]:
    batch, why = card["finetune"]["batch_size"], "the net's own"
    if machine.on_gpu and machine.gigabytes:
        fitting = [n for gb, n in card["batch_sizes"].items() if gb <= machine.gigabytes * 1.05]
        most = max(fitting, default=card["batch_sizes"][min(card["batch_sizes"])] // 2)
        why += f"; this GPU's {machine.gigabytes:.0f} GB hold up to {most}"
        batch = min(batch, most)
    if batch > train / 4:
        batch = max(1, 2 ** int(math.log2(max(1, train / 4))))
        why = f"small, so that {train} pictures make several updates an epoch"
    few, most_epochs = _EPOCHS[machine.on_gpu]
    if scratch:
        few *= 2
    epochs = min(most_epochs, max(few, round(_STEPS[machine.on_gpu] * batch / max(1, train))))
    steps = math.ceil(train / batch) * epochs
    yield Choice(
        "train", "epochs", epochs, f"{steps:,} iterations of {batch} on about {train:,} pictures"
    )
    yield Choice("train", "batch_size", batch, why)


def _engine(machine: Machine) -> Iterator[Choice]:
    if machine.engine == "caffe":
        why = "real Caffe, which is on this machine; torch: the built-in engine"
    elif machine.caffe:
        why = "the built-in engine, which runs on the GPU; the Caffe here doesn't"
    else:
        why = "the built-in engine; for real Caffe: `make caffe`, then engine: caffe"
    yield Choice("train", "engine", machine.engine, why)
    if machine.on_gpu:
        why = f"takes the GPU ({machine.gpu})"
    elif machine.gpu:
        why = f"the CPU: neither engine here runs on the {machine.gpu} (recaffe doctor says why)"
    else:
        why = "the CPU: there is no GPU here; on a machine with one, that is taken"
    yield Choice("train", "device", "auto", why)
    threads = min(8, machine.cores)
    yield Choice(
        "train", "threads", threads, "cores here; part of the run, so keep it for the same digits"
    )


def _last(val: int) -> Iterator[Choice]:
    yield Choice(
        "train",
        "mirror",
        True,
        "set false where left and right differ: letters, digits, road signs",
    )
    if val < _FEW_TO_VALIDATE:
        yield Choice(
            "train", "lr_policy", "poly", "falls to 0, so that the last weights are settled"
        )
        yield Choice(
            "train", "select", "last",
            f"of {val} validation pictures, the best of many validations is the luckiest",
        )  # fmt: skip
    else:
        yield Choice("train", "select", "best", f"on about {val:,} validation pictures")
