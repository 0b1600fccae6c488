"""Write what `recaffe summary` says of each net of the zoo: python -m tests.golden.make_zoo"""

from __future__ import annotations

from pathlib import Path

from recaffe.cli import options
from recaffe.cli.summary import describe, table
from recaffe.config import MODELS, model_card

HERE = Path(__file__).resolve().parent / "zoo"
ZOO = sorted(p.parent.name for p in MODELS.glob("*/model.yaml"))


def summary(name: str) -> str:
    """The command's table at the net's own batch and size, in TRAIN: with all its heads."""
    card = model_card(name)
    side = card["crop_size"] or card["resize"]
    net = options.read_net(str(MODELS / name / "train_val.prototxt"))
    walked = options.walk(net, "TRAIN", (1 if name == "lenet" else 3, side, side))
    return table(describe(net.name, "TRAIN", walked)) + "\n"


if __name__ == "__main__":
    HERE.mkdir(exist_ok=True)
    for net_name in ZOO:
        (HERE / f"{net_name}.txt").write_text(summary(net_name), encoding="utf-8")
