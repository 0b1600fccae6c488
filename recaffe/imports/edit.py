"""Edits of a zoo's net into the net that a framework's weights were trained in."""

from __future__ import annotations

from collections.abc import Sequence

from recaffe.net.prototxt import Message, parse


def layers(tree: Message) -> dict[str, Message]:
    """Name → layer; of the data layers, which share one, the last."""
    return {str(x.get("name")): x for x in tree.messages("layer")}


def of_type(tree: Message, kind: str) -> list[Message]:
    """All layers of a type, in order."""
    return [x for x in tree.messages("layer") if x.get("type") == kind]


def drop(tree: Message, names: Sequence[str]) -> None:
    """Take layers out; what read their tops reads their first bottom (which may be the same)."""
    for name in names:
        gone = layers(tree)[name]
        tree.fields = [f for f in tree.fields if f.message is not gone]
        below, above = gone.get("bottom"), gone.get("top")
        if above != below:
            for layer in tree.messages("layer"):
                bottoms = layer.values("bottom")
                if above in bottoms and below is not None:
                    layer.set("bottom", *(below if b == above else b for b in bottoms))


def insert(tree: Message, behind: Message, text: str) -> None:
    """Put the layers of a text behind a layer."""
    at = next(i for i, f in enumerate(tree.fields) if f.message is behind)
    new = parse("\n" + text.strip() + "\n").fields
    tree.fields[at + 1 : at + 1] = new
