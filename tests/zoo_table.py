"""The table of nets in docs/zoo.md, from the cards: `python -m tests.zoo_table` prints it."""

from __future__ import annotations

from typing import Any

from recaffe import config
from tests.unit.zoo_published import LEARNED

HEAD = (
    "| net | year | crop | mean | parameters | top-1 | top-5 | weights | licence of the weights |\n"
    "| --- | --- | --- | --- | --- | --- | --- | --- | --- |"
)


def table() -> str:
    """Rows in the order of the years, then of the names."""
    nets = {
        p.parent.name: config.model_card(p.parent.name) for p in config.MODELS.glob("*/model.yaml")
    }
    order = sorted(nets, key=lambda net: (nets[net]["year"], net))
    return "\n".join([HEAD, *(_row(net, nets[net]) for net in order)])


def _row(net: str, card: dict[str, Any]) -> str:
    mean, accuracy = card["mean"], card.get("accuracy", {})
    published = card.get("published")
    name = f"[`{net}`]({published['page']})" if published else f"`{net}`"
    size = f"{published['size'] / 1e6:.0f} MB" if published and "size" in published else "yes"
    cells = [
        name, card["year"], card["crop_size"] or "record", "values" if isinstance(mean, list) else mean,
        f"{LEARNED[net]:,}", accuracy.get("top_1", ""), accuracy.get("top_5", ""),
        size if published else "none", published["licence"] if published else "",
    ]  # fmt: skip
    return f"| {' | '.join(map(str, cells))} |"


if __name__ == "__main__":
    print(table())
