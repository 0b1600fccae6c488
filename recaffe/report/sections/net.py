"""Each run's net: its picture, and which layers were copied, are new, or were frozen."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from html import escape
from typing import Any

from markupsafe import Markup

from recaffe.errors import NetError
from recaffe.net import draw, graph, inputs, parse, shapes
from recaffe.proto import caffe_pb2 as pb
from recaffe.report.album import Album

TITLE = "Net"


def view(facts: dict[str, Any], album: Album) -> dict[str, Any]:
    """`nets`: runs whose nets are equal in all that is shown, together."""
    nets: dict[str, dict[str, Any]] = {}
    for name, run in facts["runs"].items():
        key = repr((run["deploy"], run["layers"], run["net"]))
        if key in nets:
            nets[key]["runs"].append(name)
            continue
        frozen = set(run["net"]["frozen"])
        nets[key] = {
            "runs": [name],
            "run": run,
            "counts": Counter(row["status"] for row in run["layers"]),
            "layers": [{**row, "frozen": row["layer"] in frozen} for row in run["layers"]],
            "costs": [row for row in run["net"]["layers"] if row["params"]],
            "picture": picture(
                run["deploy"],
                f"net{len(nets)}",
                new={row["layer"] for row in run["layers"] if row["status"] == "new"},
                frozen=frozen,
            ),
        }
    return {"nets": list(nets.values()), "kinds": draw.COLOURS}


def picture(
    deploy: str, name: str, new: Collection[str] = (), frozen: Collection[str] = ()
) -> Markup:
    """The SVG of a deploy net's text, new and frozen layers marked, its ids its own within the page."""
    net = parse.to_net(parse.to_tree(deploy.encode(), "deploy.prototxt"))
    layers = graph.of_phase(net, pb.TEST)
    try:
        walk = shapes.walk(layers, inputs.source_shapes(layers, None, {}))
    except NetError:  # a layer of its author's own
        walk = draw.unshaped(layers)
    text = draw.svg(net, [walk])
    for what in ('id="', "url(#"):
        text = text.replace(f"{what}tip", f"{what}{name}-tip")
    for kind, layers_of_kind in (("is-frozen", frozen), ("is-new", new)):
        for layer in layers_of_kind:
            box = f"<g><title>{escape(layer)} ("
            text = text.replace(box, box.replace("<g>", f'<g class="{kind}">'))
    return Markup(text.replace("<svg ", '<svg class="net" role="img" ', 1))
