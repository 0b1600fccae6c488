"""Layers, shapes, parameters, multiply-adds and memory of a net.

Shapes come from Input layers, from the data layers' sources, or from --input. Memory is what
training in float32 holds: each blob with its gradient, each weight with gradient and momentum.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from recaffe.cli import options

if TYPE_CHECKING:
    from recaffe.net.shapes import LayerShapes

COLUMNS = ("layer", "type", "output", "parameters", "MACs", "blobs")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The subcommand's flags."""
    parser.add_argument("net", metavar="NET", help="a net's prototxt")
    parser.add_argument("--weights", metavar="W", help="a caffemodel that must fit the net")
    parser.add_argument("--phase", choices=("TRAIN", "TEST"), default="TRAIN")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    options.add_input(parser)
    options.add_state(parser)


def main(args: argparse.Namespace) -> int:
    """Print the table on stdout."""
    net = options.read_net(args.net, args.level, args.stage)
    walked = options.walk(net, args.phase, options.input_size(args.input))
    if args.weights:
        options.weights_for(walked, args.weights)
    facts = describe(net.name, args.phase, walked)
    if args.json:
        print(json.dumps(facts, indent=2, ensure_ascii=False))
        return 0
    print(table(facts))
    if args.weights:
        print(f"{args.weights} has all of these parameters, in these shapes.")
    return 0


def describe(name: str, phase: str, walked: Sequence[LayerShapes]) -> dict[str, Any]:
    """What the table shows, as plain data: `layers` and their sums; memory in bytes."""
    from dataclasses import asdict

    from recaffe.net import graph, summary
    from recaffe.net.shapes import count

    memory = summary.memory(walked)
    data = next((s for s in walked if s.layer.type in graph.DATA and s.tops), None)
    return {
        "name": name,
        "phase": phase,
        "batch": data.tops[0][0] if data and data.tops[0] else 1,
        "layers": [
            {
                "name": s.layer.name,
                "type": s.layer.type,
                "bottoms": dict(zip(s.layer.bottom, map(list, s.bottoms), strict=False)),
                "tops": dict(zip(s.layer.top, map(list, s.tops), strict=False)),
                "parameters": sum(count(shape) for shape, _ in s.params),
                "macs": summary.macs(s),
                "blob_bytes": 4 * summary.own_blobs(s),
            }
            for s in walked
        ],
        "parameters": summary.parameters(walked),
        "macs": sum(summary.macs(s) for s in walked),
        "memory": {**asdict(memory), "total": memory.total},
    }


def table(facts: dict[str, Any]) -> str:
    """Aligned columns, and the sums below them."""
    rows: list[tuple[str, ...]] = [COLUMNS]
    for layer in facts["layers"]:
        shapes = [_shape(s) for s in layer["tops"].values()]
        rows.append(
            (
                layer["name"],
                layer["type"],
                ", ".join(shapes),
                f"{layer['parameters']:,}" if layer["parameters"] else "",
                f"{layer['macs']:,}" if layer["macs"] else "",
                _bytes(layer["blob_bytes"]) if layer["blob_bytes"] else "in place",
            )
        )
    blobs = sum(layer["blob_bytes"] for layer in facts["layers"])
    rows.append(("total", "", "", f"{facts['parameters']:,}", f"{facts['macs']:,}", _bytes(blobs)))
    widths = [max(len(row[i]) for row in rows) for i in range(len(COLUMNS))]
    lines = [
        "  ".join(
            cell.ljust(width) if i < 3 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
    rule = "─" * max(map(len, lines))
    m = facts["memory"]
    per_picture = facts["macs"] / facts["batch"]
    return "\n".join(
        [
            f"{facts['name'] or 'net'}, {facts['phase']}, batch {facts['batch']}",
            lines[0],
            rule,
            *lines[1:-1],
            rule,
            lines[-1],
            f"{per_picture / 1e6:,.1f} million multiply-adds a picture",
            f"to run:   {_bytes(m['activations'] + m['weights'])} "
            f"(blobs {_bytes(m['activations'])}, weights {_bytes(m['weights'])})",
            f"to train: {_bytes(m['total'])} (also gradients of blobs {_bytes(m['gradients'])}, "
            f"of weights {_bytes(m['weight_gradients'])}, momentum {_bytes(m['momentum'])})",
        ]
    )


def _shape(dims: list[int]) -> str:
    return "×".join(map(str, dims)) or "1"


def _bytes(n: float) -> str:
    for unit in ("B", "KiB", "MiB", "GiB"):
        if n < 1024 or unit == "GiB":
            return f"{n:.0f} {unit}" if unit == "B" else f"{n:.1f} {unit}"
        n /= 1024
    raise AssertionError
